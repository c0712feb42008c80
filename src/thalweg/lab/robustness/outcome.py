"""The figures of a study of robustness: one row for each optimizer on each task, and their medians over the tasks."""

import math
from dataclasses import dataclass

import numpy as np

from thalweg.lab.analysis import Run
from thalweg.lab.robustness.sweep import Panel, Sweep, Width


@dataclass(frozen=True)
class Gain:
    """The difference of two widths."""

    decades: float
    at_least: bool
    """Whether it may be more, for the range of the steered optimizer reaches an end of the sweep,"""
    at_most: bool
    """or less, for that of the plain one does."""


@dataclass(frozen=True)
class Row:
    """One optimizer on one task; what needs runs that are missing is None, and what compares is None for a plain one."""

    task: str
    optimizer: str
    over: str | None
    """What it steers, which it is compared with."""
    lr: float | None
    """The best of what it steers, or its own."""
    width: Width | None
    gain: Gain | None
    diverged: int
    runs: int
    loss: float | None
    """Median validation loss at that learning rate."""
    loss_ratio: float | None
    """Of these to the plain one's."""
    extra_gradients: float | None
    """Gradient-equivalents a step beside its gradient, there."""
    seconds_ratio: float | None
    """CPU seconds of a step, to the plain one's, there."""


def rows(panels: list[Panel]) -> list[Row]:
    """Return the rows of all panels, a plain optimizer before what steers it."""
    return [_row(panel, sweep) for panel in panels for sweep in panel.sweeps]


def _row(panel: Panel, sweep: Sweep) -> Row:
    plain = panel.plain
    itself = sweep is plain
    width, reference = panel.width(sweep), panel.width(plain)
    seconds = [other.at_best(seconds_a_step) for other in (sweep, plain)]
    return Row(
        task=panel.task.name,
        optimizer=sweep.name,
        over=None if itself else plain.name,
        lr=None if plain.cell.point is None else plain.cell.point["lr"],
        width=width,
        gain=None if itself or width is None or reference is None else _gain(width, reference),
        diverged=sweep.diverged,
        runs=len(sweep.cell.finals),
        loss=_known(sweep.loss_at_best),
        loss_ratio=None if itself else _known(sweep.loss_at_best / plain.loss_at_best),
        extra_gradients=None if itself else _known(sweep.at_best(extra_gradients)),
        seconds_ratio=None if itself else _known(seconds[0] / seconds[1]),
    )


def seconds_a_step(run: Run) -> float:
    """CPU seconds of a step, its gradient and its measurements included."""
    return run.result.seconds / run.result.steps if run.result.steps else math.nan


def extra_gradients(run: Run) -> float:
    """Gradient-equivalents of a step's measurements: (charged − steps)/steps."""
    return run.result.charged / run.result.steps - 1 if run.result.steps else math.nan


def _gain(width: Width, reference: Width) -> Gain:
    return Gain(width.decades - reference.decades, width.open, reference.open)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True)
class Spread:
    """A number over the tasks."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Headline:
    """One steered optimizer against what it steers, over all tasks; spreads are None while runs are missing."""

    optimizer: str
    over: str
    diverged: int
    runs: int
    plain_diverged: int
    plain_runs: int
    gain: Spread | None
    loss_ratio: Spread | None
    extra_gradients: Spread | None
    seconds_ratio: Spread | None


def headlines(found: list[Row]) -> list[Headline]:
    """Return one headline for each steered optimizer, in their order."""
    return [
        _headline(optimizer, over, found)
        for optimizer, over in dict.fromkeys((row.optimizer, row.over) for row in found)
        if over is not None
    ]


def _headline(optimizer: str, over: str, found: list[Row]) -> Headline:
    mine, plain = ([row for row in found if row.optimizer == name] for name in (optimizer, over))
    return Headline(
        optimizer=optimizer,
        over=over,
        diverged=sum(row.diverged for row in mine),
        runs=sum(row.runs for row in mine),
        plain_diverged=sum(row.diverged for row in plain),
        plain_runs=sum(row.runs for row in plain),
        gain=_spread([row.gain.decades if row.gain else None for row in mine]),
        loss_ratio=_spread([row.loss_ratio for row in mine]),
        extra_gradients=_spread([row.extra_gradients for row in mine]),
        seconds_ratio=_spread([row.seconds_ratio for row in mine]),
    )


def _spread(values: list[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return Spread(float(np.median(known)), min(known), max(known))
