"""Around the optimizer: scalers, hooks, accumulation, compiled models, tied and frozen parameters, as with torch's own."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.trial import STRATEGIES, error

PLAIN = [spec for spec in SPECS if not spec.kwargs and not spec.dims]
BATCHES = torch.randn(8, 16, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder turned round, a scale without dimensions, a frozen bias, an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encode, self.decode, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(2, 2)
        self.decode.weight = self.encode.weight
        self.encode.bias.requires_grad_(False)
        self.scale, self.empty = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.zeros(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        return (self.decode(self.encode(x).tanh()) * self.scale - x).square().mean() + self.empty.sum()


def pair(spec: Spec, **options: Any) -> list[tuple[Tied, torch.optim.Optimizer]]:
    ours, theirs = Tied(), Tied()
    return [
        (ours, thalweg.create(spec.name, ours.parameters(), lr=spec.lr, **options)),
        (theirs, spec.oracle(theirs.parameters(), lr=spec.lr, **spec.oracle_kwargs)),
    ]


def distance(runs: list[tuple[Tied, torch.optim.Optimizer]]) -> float:
    (ours, _), (theirs, _) = runs
    return error(list(ours.parameters()), list(theirs.parameters()))


def cases() -> Iterator[Any]:
    """Every rule under every strategy; compiled one, and in a slow run all: which parameters take part no rule decides."""
    for spec, run in itertools.product(PLAIN, STRATEGIES):
        again = run == "compiled" and spec is not PLAIN[3]
        yield pytest.param(spec, run, id=f"{spec.id}-{run}", marks=[pytest.mark.slow] if again else [])


@pytest.mark.parametrize(("spec", "run"), list(cases()))
def test_tied_frozen_unused_scalar_and_empty_parameters(spec: Spec, run: str) -> None:
    runs = pair(spec, run=run)
    for model, optimizer in runs:
        for batch in BATCHES:
            optimizer.zero_grad()
            model(batch).backward()
            optimizer.step()
    assert distance(runs) <= 1e-12
    model, optimizer = runs[0]
    assert model.decode.weight is model.encode.weight
    assert not {model.encode.bias, *model.unused.parameters()} & set(optimizer.state)


def test_gradients_accumulate_over_batches() -> None:
    runs = pair(PLAIN[3])
    for model, optimizer in runs:
        for half in BATCHES.split(4):
            optimizer.zero_grad(set_to_none=False)
            for batch in half:
                (model(batch) / 4).backward()
            optimizer.step()
    assert distance(runs) <= 1e-12


@pytest.mark.parametrize("run", STRATEGIES)
def test_a_grad_scaler_unscales_and_passes_over_overflows(run: str) -> None:
    runs = pair(PLAIN[3], run=run)
    for model, optimizer in runs:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        for i, batch in enumerate(BATCHES):
            optimizer.zero_grad()
            scaler.scale(model(batch * (float("inf") if i == 4 else 1.0))).backward()
            before = copy.deepcopy(list(model.parameters()))
            scaler.step(optimizer)
            scaler.update()
            if i == 4:
                assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        assert scaler.get_scale() == 4096.0  # twice doubled, halved, doubled again
    assert distance(runs) <= 1e-12


def test_step_hooks_run_around_the_step() -> None:
    model, optimizer = pair(PLAIN[0])[0]
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    model(BATCHES[0]).backward()
    optimizer.step()
    assert seen == ["before", "after"]


@pytest.mark.parametrize("whole_step", [False, True], ids=["model", "model and step"])
@pytest.mark.parametrize("run", STRATEGIES)
def test_compiled_models_and_steps(run: str, whole_step: bool) -> None:
    runs = pair(PLAIN[3], run=run)
    for model, optimizer in runs:
        step = torch.compile(optimizer.step) if whole_step and isinstance(optimizer, thalweg.Adam) else optimizer.step
        compiled = torch.compile(model, backend="eager")
        for batch in BATCHES[:4]:
            optimizer.zero_grad()
            compiled(batch).backward()
            step()
    assert distance(runs) <= 1e-12


def test_the_learning_rate_may_be_a_tensor_that_others_write() -> None:
    lr = torch.tensor(0.01)
    ours, theirs = Tied(), Tied()
    optimizers = thalweg.Adam(ours.parameters(), lr=lr), torch.optim.Adam(theirs.parameters(), lr=lr)
    runs = list(zip((ours, theirs), optimizers, strict=True))
    for model, optimizer in runs:
        for i, batch in enumerate(BATCHES):
            lr.fill_(0.01 * (i + 1))
            optimizer.zero_grad()
            model(batch).backward()
            optimizer.step()
    assert distance(runs) <= 1e-12
