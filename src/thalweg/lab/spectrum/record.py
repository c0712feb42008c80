"""What one `thalweg spectrum` is asked for, and what it has seen so far."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from thalweg.control import Decision
from thalweg.lab.errors import UserError, check_range
from thalweg.lab.space import Entry, Value, entry
from thalweg.lab.spectrum.decisions import troubles
from thalweg.lab.tasks import Task, load_task
from thalweg.lab.tasks.files import check_preset, options

PROBES = 30
"""Of a run, if the user does not say how often."""


@dataclass(frozen=True)
class Request:
    """The options of the command; None where the task or the optimizer's space decides."""

    task: Task
    entry: Entry
    lr: float
    steps: int
    every: int
    k: int
    seed: int

    @classmethod
    def of(
        cls,
        task: str,
        optimizer: str,
        lr: float | None,
        steps: int | None,
        every: int | None,
        k: int,
        seed: int,
        preset: str | None = None,
    ) -> "Request":
        """Check what was asked for.

        Raises:
            UserError: a name is unknown, a number out of range, or the task's files are missing or damaged.
        """
        loaded, entered = load_task(task, check_preset(preset)), entry(optimizer)
        if lr is not None and not 0 < lr < float("inf"):
            raise UserError(f"--lr is {lr:g}; it must be above 0 and finite.")
        taken = check_range("--steps", loaded.budget if steps is None else steps, 1, 1_000_000)
        return cls(
            loaded,
            entered,
            _usual(entered) if lr is None else lr,
            taken,
            check_range("--every", max(1, taken // PROBES) if every is None else every, 1, taken),
            check_range("-k", k, 1, 100),
            check_range("--seed", seed, 0, 2**31),
        )

    @property
    def keywords(self) -> dict[str, Value]:
        """What the optimizer's constructor gets."""
        return self.entry.keywords({"lr": self.lr})

    @property
    def rule(self) -> str:
        """The optimizer in words."""
        rest = ", ".join(f"{name} {value}" for name, value in self.keywords.items() if name != "lr")
        relation = "≤ " if ceils(self.entry) else ""
        return f"{self.entry.name}, η {relation}{self.lr:.3g}" + (f", {rest}" if rest else "")

    @property
    def command(self) -> str:
        """The command line that does it again."""
        given = "".join(f" {word}" for word in options(self.task.preset, "DIR"))
        return (
            f"thalweg spectrum {self.task.name} -o {self.entry.name} --lr {self.lr} --steps {self.steps}"
            f" --every {self.every} -k {self.k} --seed {self.seed}{given}"
        )


def ceils(entry: Entry) -> bool:
    """Whether the learning rate is the most that is used: Hi-DLR begins with it and may raise it."""
    return entry.steering is not None and entry.steering.by == "dcao"


def _usual(entry: Entry) -> float:
    """The middle of the range of learning rates; its end where that is a ceiling, so that there is something to lower."""
    rates = entry.space["lr"]
    return rates.high if ceils(entry) else rates.at(0.5)


@dataclass(frozen=True)
class Edge:
    """Where a run stands to the edge of stability.

    Attributes:
        sharpness: the largest curvature as the optimizer sees it, λ₁(P^-½HP^-½) with P its preconditioner.
        threshold: the sharpness above which its steps grow.
        ratio: sharpness over threshold: 1 is the edge.
        residual: of the ratio.
    """

    sharpness: float
    threshold: float
    ratio: float
    residual: float


@dataclass(frozen=True)
class Probe:
    """The curvature at one step, on the probe batch.

    Attributes:
        step: how many steps had been taken.
        loss, gradient_norm: there.
        eigenvalues: of the Hessian, the k largest, descending.
        residuals: the distance within which an eigenvalue lies of each.
        edge: None where P or the threshold are unknown, as before the first step of an adaptive optimizer.
        batch_sharpness: E[gᵀH_B g / gᵀg] over mini-batches; None where the optimizer preconditions.
    """

    step: int
    loss: float
    gradient_norm: float
    eigenvalues: list[float]
    residuals: list[float]
    edge: Edge | None
    batch_sharpness: float | None


@dataclass(frozen=True)
class Portrait:
    """The whole spectrum at one step.

    Attributes:
        grid, values: the spectral density, the integral of which is 1.
        trace, trace_error: the sum of all eigenvalues, and its standard error.
        layers: the largest eigenvalue of each layer's own block.
    """

    step: int
    grid: list[float]
    values: list[float]
    trace: float
    trace_error: float
    layers: dict[str, float]


@dataclass
class Recording:
    """What has been seen so far; whole at any moment, so that an interrupted run shows it."""

    request: Request
    parameters: int
    state: Literal["finished", "stopped", "diverged"] = "stopped"
    why_no_threshold: str = ""
    losses: list[float] = field(default_factory=list[float])
    """Of the mini-batches, one a step."""
    decisions: list[Decision] = field(default_factory=list[Decision])
    """Of a controller, one a step."""
    thresholds: list[float] = field(default_factory=list[float])
    """Of a governed run: the stability threshold at the learning rate of each step."""
    advice: list[str] = field(default_factory=list[str])
    """What the optimizer warned of when it was made."""
    probes: list[Probe] = field(default_factory=list[Probe])
    portraits: list[Portrait] = field(default_factory=list[Portrait])
    """At the start and at the end."""
    products: int = 0
    """Products with the Hessian on the probe batch."""
    training_seconds: float = 0.0
    probing_seconds: float = 0.0

    @property
    def notes(self) -> list[str]:
        """What went wrong, or is likely to."""
        return self.advice + troubles(self.decisions)

    @property
    def settled_ratio(self) -> float | None:
        """The median sharpness ÷ threshold of the second half of the steps."""
        half = len(self.losses) / 2
        found = [probe.edge.ratio for probe in self.probes if probe.step >= half and probe.edge]
        return float(np.median(found)) if found else None
