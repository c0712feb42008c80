"""The order of a run: rule by rule, all subjects of a rule at once, each with tensors of its own.

One rule's subjects are alive together and no other's, which keeps the transformer's run below 4 GiB.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.lab.bench import compiling
from thalweg.lab.bench.memory import peak_temporaries
from thalweg.lab.bench.models import MODELS, Shape, elements, parameters
from thalweg.lab.bench.result import Result, Row, conditions
from thalweg.lab.bench.subjects import RULES, Subject, ours, peers, twins
from thalweg.lab.bench.timing import Spread, interleave, warm_up

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What to measure; the names are those of the command's options."""

    rules: tuple[str, ...]
    strategies: tuple[str, ...]
    model: str
    threads: int
    rounds: int
    device: str
    dtype: str
    peers: bool
    compiling: bool


def run(settings: Settings, say: Say) -> Result:
    """Measure; `say` is told what is being done."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    torch.set_num_threads(settings.threads)
    shapes = MODELS[settings.model]()
    rows: list[Row] = []
    for name in settings.rules:
        rule = RULES[name]
        subjects = [*twins(rule), *(ours(rule, s) for s in settings.strategies)]
        if settings.peers:
            subjects += peers(name)
        rows += measure_rule(name, subjects, [s for s in shapes if len(s) >= rule.dims], settings, say)
    return Result(
        conditions(
            model=settings.model,
            tensors=len(shapes),
            elements=elements(shapes),
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            rounds=settings.rounds,
            load=load,
        ),
        rows,
        _compiling(settings, say),
    )


def measure_rule(name: str, subjects: list[Subject], shapes: list[Shape], settings: Settings, say: Say) -> list[Row]:
    """Time one rule's subjects against each other; the rows keep the subjects' order."""
    steps: dict[str, Callable[[], object]] = {}
    parameter_bytes = 0
    for subject in subjects:
        say(f"{name}: warming up {subject.label}")
        params = parameters(shapes, device=settings.device, dtype=getattr(torch, settings.dtype))
        parameter_bytes = sum(p.nbytes for p in params)
        steps[subject.label] = _warm_step(subject, params, settings.device)
    say(f"{name}: timing {len(steps)} subjects over {settings.rounds} rounds")
    samples = interleave(steps, settings.rounds, settings.device)
    twin_samples = {s.label: samples[s.label] for s in subjects if s.library == "torch"}
    return [
        Row(
            rule=name,
            subject=label,
            milliseconds=Spread.of([1e3 * s for s in samples[label].wall]),
            host_milliseconds=Spread.of([1e3 * s for s in samples[label].host]),
            ratios={twin: samples[label].ratio(theirs) for twin, theirs in twin_samples.items() if twin != label},
            temporaries=peak_temporaries(step, settings.device) / parameter_bytes,
        )
        for label, step in steps.items()
    ]


def _warm_step(subject: Subject, params: list[Tensor], device: str) -> Callable[[], object]:
    """The subject's step function, warmed up, with its gradients still in place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other libraries' notices are not this command's output
        optimizer = subject.build(params)
        warm_up(optimizer.step, device)
    if any(p.grad is None for p in params):
        raise RuntimeError(f"{subject.label} frees the gradients: its further steps would be empty")
    return optimizer.step


def _compiling(settings: Settings, say: Say) -> list[compiling.Compiling]:
    if not settings.compiling or "compiled" not in settings.strategies:
        return []
    found: list[compiling.Compiling] = []
    for name in settings.rules:
        say(f"{name}: compiling cold and warm in fresh processes")
        found.append(
            compiling.measure(
                name, settings.model, device=settings.device, dtype=settings.dtype, threads=settings.threads
            )
        )
    return found
