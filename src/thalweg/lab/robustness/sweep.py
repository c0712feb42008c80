"""Runs at multiples of one learning rate, put together: how they ended, and how wide the usable range is.

All curves of a `Panel` are over the same learning rates, the same seeds and equally many steps; what measuring costs beside
them is counted apart.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from thalweg.lab.analysis import Analysis, Cell, Run
from thalweg.lab.contract import TaskTerms
from thalweg.lab.statistics.sensitivity import UsableRange, range_above

BLEW_UP, RECOVERED = 2.0, 0.9
"""Multiples of the untrained network's loss: a run that passed the first and did not come back below the second diverged."""
ENDED = ("ok", "diverged")
"""States of runs that no error or limit cut short."""
LOSS_SLACK = 0.05
"""A learning rate is usable whose median loss is within this part of the best,"""
ACCURACY_SLACK = 1.0
"""or whose median accuracy is within so many points of the best."""


def diverged(run: Run) -> bool:
    """Whether a run blew up and did not come back; one that merely learned nothing, as at a tiny learning rate, did not.

    Its training loss was not finite, or passed the contract's ``diverged_above`` times the untrained network's validation
    loss L₀; or it passed 2 L₀ and the validation loss at the end is above 0.9 L₀.
    """
    if run.result.state not in ENDED:
        return False
    untrained, last, highest = run.curve[0].validation_loss, run.curve[-1].validation_loss, run.result.highest
    if untrained is None or last is None or highest is None:
        return True
    blew_up = highest > BLEW_UP * untrained and last > RECOVERED * untrained
    return blew_up or highest > run.config.diverged_above * untrained


@dataclass(frozen=True)
class Ending:
    """How a run of a sweep ended."""

    seed: int
    diverged: bool
    loss: float
    """Validation loss at the end; ∞ if the run diverged or broke."""
    value: float
    """The task's metric at the end; NaN if the run diverged or broke."""

    @classmethod
    def of(cls, run: Run) -> "Ending":
        """Judge a run by its curve, which a run that ended worse than untrained has to the end."""
        blew_up = diverged(run)
        if blew_up or run.result.state not in ENDED:
            return cls(run.config.seed, blew_up, math.inf, math.nan)
        last = run.curve[-1]
        assert last.validation_loss is not None
        return cls(
            run.config.seed, False, last.validation_loss, math.nan if last.validation is None else last.validation
        )


@dataclass(frozen=True)
class Sweep:
    """One optimizer on one task at every multiple of a learning rate."""

    cell: Cell
    multiples: tuple[float, ...]
    seeds: int

    @property
    def name(self) -> str:
        """The optimizer's name."""
        return self.cell.terms.name

    @cached_property
    def endings(self) -> list[list[Ending]]:
        """One list of seeds a multiple."""
        found: list[list[Ending]] = [[] for _ in self.multiples]
        for run in self.cell.finals:
            found[run.config.trial].append(Ending.of(run))
        return found

    @property
    def complete(self) -> bool:
        """Whether no run is missing."""
        return len(self.cell.finals) == self.seeds * len(self.multiples)

    @property
    def rates(self) -> list[float]:
        """The learning rates; none while tuning is unfinished."""
        return [] if self.cell.point is None else [self.cell.point["lr"] * multiple for multiple in self.multiples]

    @cached_property
    def losses(self) -> list[float]:
        """Median validation loss at the end, one a multiple: ∞ where half of the seeds diverged, NaN where none ended."""
        return [_median([ending.loss for ending in found]) for found in self.endings]

    @cached_property
    def accuracies(self) -> list[float]:
        """Median accuracy at the end, one a multiple; −∞ where there is no accuracy."""
        known = self.cell.task.unit == "%"
        return [
            _median([ending.value if known and not math.isnan(ending.value) else -math.inf for ending in found])
            for found in self.endings
        ]

    @property
    def diverged(self) -> int:
        """How many runs diverged."""
        return sum(ending.diverged for found in self.endings for ending in found)

    @property
    def loss_at_best(self) -> float:
        """Median validation loss at the best learning rate itself; NaN while no run has ended there."""
        return self.losses[self.multiples.index(1)]

    def at_best(self, number: Callable[[Run], float]) -> float:
        """Return the median of a number over the runs at the best learning rate itself; NaN while there is none."""
        return _median([number(run) for run in self.cell.finals if self.multiples[run.config.trial] == 1])


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else math.nan


@dataclass(frozen=True)
class Width:
    """Decades of usable learning rates."""

    decades: float
    open: bool
    """Whether they reach an end of the sweep, so that there may be more."""


@dataclass(frozen=True)
class Panel:
    """A plain optimizer on a task and all that steer it, at the same learning rates."""

    plain: Sweep
    steered: list[Sweep]

    @property
    def task(self) -> TaskTerms:
        """The task."""
        return self.plain.cell.task

    @property
    def sweeps(self) -> list[Sweep]:
        """The plain one first."""
        return [self.plain, *self.steered]

    @property
    def complete(self) -> bool:
        """Whether no run is missing."""
        return all(sweep.complete for sweep in self.sweeps)

    def usable(self, sweep: Sweep) -> UsableRange | None:
        """The learning rates around a sweep's best one within 5 % of the best loss or 1 point of the best accuracy, and between
        its neighbours by interpolation in log lr. The best is that of all sweeps together, so that none is wide for being
        evenly bad."""
        best_loss = min(min(other.losses) for other in self.sweeps)
        best_accuracy = max(max(other.accuracies) for other in self.sweeps)
        # In units of what may be lost; what is lost of the better of the two counts.
        shortfalls = [
            min((loss / best_loss - 1) / LOSS_SLACK, _points_lost(best_accuracy, accuracy) / ACCURACY_SLACK)
            for loss, accuracy in zip(sweep.losses, sweep.accuracies, strict=True)
        ]
        trials = [
            (lr, None if math.isinf(loss) else -shortfall)
            for lr, loss, shortfall in zip(sweep.rates, sweep.losses, shortfalls, strict=True)
        ]
        return range_above(trials, -1.0)

    def width(self, sweep: Sweep) -> Width | None:
        """How wide a sweep's usable range is, 0 if there is none; None while runs are missing."""
        if not self.complete:
            return None
        found = self.usable(sweep)
        return Width(0.0, False) if found is None else Width(found.decades, found.open)


def _points_lost(best: float, accuracy: float) -> float:
    return math.inf if math.isinf(accuracy) else best - accuracy


def panels(analysis: Analysis) -> list[Panel]:
    """Return one panel for each task and plain optimizer of a study."""
    contract = analysis.store.contract

    def sweep(task: TaskTerms, name: str) -> Sweep:
        return Sweep(analysis.cell(task.name, name), contract.multiples, len(contract.final_seeds))

    entries = [terms.entry for terms in contract.optimizers]
    return [
        Panel(
            sweep(task, plain.name),
            [sweep(task, entry.name) for entry in entries if entry.steering and entry.steering.over == plain.name],
        )
        for task in contract.tasks
        for plain in entries
        if plain.steering is None
    ]
