"""Racing: every optimizer tunes its learning rate on the surface, then its best run is shown.

A surface is a task of the lab whose network is a point, so that the lab's `Trainer` steps and charges every kind of optimizer:
those for matrices, averaging ones, those with closures, steered ones.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import torch
from torch import Tensor, nn

from thalweg.lab.race.surfaces import Surface
from thalweg.lab.records import RunConfig
from thalweg.lab.run import Trainer
from thalweg.lab.space import Entry, Schedule
from thalweg.lab.tasks import Batch, Metric, Task

ARRIVED = 1e-3
"""f − f* below which an optimizer has arrived."""
SETTLED = 1e-12
"""f − f* below which all runs count as equally low."""
DIVERGED_ABOVE = 100.0
"""A run ends as diverged where f − f* exceeds this multiple of its value at the start, as the lab's runs do."""
SHAPES = {"muon": (1, 2), "mars": (1, 2)}
"""Of the point, for rules that would leave a vector to AdamW: a matrix of one row."""
MOMENTA = ("momentum_buffer", "exp_avg")
"""Names of the momentum in a parameter's state."""


@dataclass(frozen=True)
class Track:
    """One run over a surface. Entry i of each tensor is what there was after i steps, float64."""

    optimizer: str
    lr: float
    points: Tensor
    """(steps + 1, 2): the parameters, or where the rule keeps an average, that average."""
    momenta: Tensor | None
    """(steps + 1, 2): the rule's average of gradients, if it keeps one."""
    charged: Tensor
    """(steps + 1): gradient-equivalents used."""
    heights: Tensor
    """(steps + 1): f − f*."""
    diverged: bool

    @property
    def steps(self) -> int:
        """Steps made."""
        return len(self.points) - 1

    @cached_property
    def lowest(self) -> float:
        """The lowest f − f* of the run."""
        return self.heights.min().item()

    @cached_property
    def arrival(self) -> int | None:
        """The step from which on f − f* stays below `ARRIVED`; None if it is above at the end."""
        return self.below_from(ARRIVED)

    def below_from(self, height: float) -> int | None:
        """The step from which on f − f* stays at or below a height."""
        above = (~(self.heights <= height)).nonzero()  # NaN compares false
        step = int(above[-1].item()) + 1 if len(above) else 0
        return step if step <= self.steps else None

    @property
    def settled(self) -> float:
        """The median f − f* of the run's last tenth: a run that leaps over the minimum has not found it."""
        return self.heights[-max(1, len(self.heights) // 10) :].median().item()

    @property
    def rank(self) -> tuple[bool, float, float]:
        """What tuning goes by: diverged runs last, then where the run settled; where that is the minimum, who was there
        first."""
        there = self.below_from(SETTLED)
        return self.diverged, max(self.settled, SETTLED), math.inf if there is None else there


@dataclass(frozen=True)
class Race:
    """A surface, and the best run of every optimizer."""

    surface: Surface
    budget: int
    trials: int
    tracks: list[Track]


class Walker(nn.Module):
    """The network of a surface: a point, which it returns whatever the input."""

    def __init__(self, surface: Surface, shape: tuple[int, ...]):
        super().__init__()
        self.point = nn.Parameter(torch.tensor(surface.start, dtype=torch.float64).reshape(shape))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the point, (2,)."""
        return self.point.flatten()


def as_task(surface: Surface, shape: tuple[int, ...], budget: int) -> Task:
    """Return the task whose loss is the surface: the outputs are the point, so that Gauss–Newton is the Hessian."""
    nothing: Batch = (torch.zeros(1), torch.zeros(1))

    def batches(generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        while True:
            yield nothing

    return Task(
        name=surface.name,
        summary=surface.trouble,
        build=partial(Walker, surface, shape),
        sample=batches,
        loss=lambda outputs, targets: surface.loss(outputs),
        metric=Metric("f", "", "min", 0.0, lambda outputs, targets: surface.loss(outputs)),
        probe=nothing,
        validation=nothing,
        test=nothing,
        batch_size=1,
        budget=budget,
        data_hash="",
    )


def trainer_of(surface: Surface, entry: Entry, lr: float, budget: int) -> Trainer:
    """Set an optimizer down at the start, its learning rate constant: a schedule would be part of what is seen."""
    config = RunConfig(
        study="race",
        task=surface.name,
        optimizer=entry.name,
        rule=entry.rule,
        steering=entry.steering,
        phase="tuning",
        trial=0,
        seed=0,
        point={"lr": lr},
        keywords=entry.keywords({"lr": lr}),
        schedule=Schedule(shape="constant", warmup=0),
        budget=budget,
        evaluations=1,
        diverged_above=DIVERGED_ABOVE,
        timeout_seconds=math.inf,
    )
    return Trainer(config, as_task(surface, SHAPES.get(entry.rule, (2,)), budget))


def drive(surface: Surface, entry: Entry, lr: float, budget: int) -> Track:
    """Run an optimizer over a surface until it has used its budget of gradient-equivalents, or has diverged."""
    trainer = trainer_of(surface, entry, lr, budget)
    ceiling = DIVERGED_ABOVE * surface.heights(torch.tensor(surface.start, dtype=torch.float64)).item()
    points, momenta, charged, diverged = [_point(trainer)], [_momentum(trainer)], [0.0], False
    while trainer.used < budget and not diverged:
        try:
            trainer.step()
        except FloatingPointError:  # of a curvature that was to be measured
            diverged = True
            break
        points.append(_point(trainer))
        momenta.append(_momentum(trainer))
        charged.append(float(trainer.charged))
        diverged = not surface.heights(points[-1]).item() <= ceiling  # NaN compares false
    kept = [torch.zeros(2, dtype=torch.float64) if m is None else m for m in momenta]
    path = torch.stack(points)
    return Track(
        optimizer=entry.name,
        lr=lr,
        points=path,
        momenta=None if all(m is None for m in momenta) else torch.stack(kept),
        charged=torch.tensor(charged, dtype=torch.float64),
        heights=surface.heights(path),
        diverged=diverged,
    )


def _point(trainer: Trainer) -> Tensor:
    with trainer.evaluated():
        return cast(Walker, trainer.model).point.detach().flatten().clone()


def _momentum(trainer: Trainer) -> Tensor | None:
    state = trainer.plain.state.get(cast(Walker, trainer.model).point, {})
    found = next((state[name] for name in MOMENTA if isinstance(state.get(name), Tensor)), None)
    return None if found is None else found.detach().flatten().double().clone()


def rates(entry: Entry, trials: int) -> list[float]:
    """Return the learning rates that are tried: evenly spread on a logarithmic scale, the ends of the entry's range among
    them; with one trial, its middle."""
    space = entry.space["lr"]
    return [space.at(number / (trials - 1) if trials > 1 else 0.5) for number in range(trials)]


def tune(surface: Surface, entry: Entry, trials: int, budget: int) -> Track:
    """Return the best run of all learning rates; see `Track.rank`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of learning rates that are known to be bad, which tuning tries too
        runs = [drive(surface, entry, lr, budget) for lr in rates(entry, trials)]
    return min(runs, key=lambda track: track.rank)


def race(surface: Surface, entries: list[Entry], trials: int, budget: int, tell: Callable[[Track], None]) -> Race:
    """Let every optimizer tune and run; `tell` is called after each."""
    tracks: list[Track] = []
    for entry in entries:
        tracks.append(tune(surface, entry, trials, budget))
        tell(tracks[-1])
    return Race(surface, budget, trials, tracks)
