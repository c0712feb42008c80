"""The data of the report's figures, as plain lists; report.js draws them. A failed run's value is null."""

from typing import Any

import numpy as np

from thalweg.lab.analysis import Analysis, Cell, Run
from thalweg.lab.contract import TaskTerms
from thalweg.lab.records import CurvePoint

COLOURS = (
    "#7a869a", "#2f80ed", "#12a594", "#e5793a", "#8e5bd0", "#d6408b", "#a8841a", "#5a9e2f", "#c2554d", "#3aa3c9",
)  # fmt: skip
"""Readable on white and on near-black; given out in the order the optimizers entered."""
SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "star",
    "cross",
    "pentagon",
    "hexagram",
    "hourglass",
)
COLUMNS = ("step", "charged", "seconds", "train_loss", "validation_loss", "validation")


def figures(analysis: Analysis) -> dict[str, Any]:
    """Return everything report.js draws."""
    names = [terms.name for terms in analysis.store.contract.optimizers]
    return {
        "optimizers": [
            {"name": name, "colour": COLOURS[i % len(COLOURS)], "symbol": SYMBOLS[i % len(SYMBOLS)]}
            for i, name in enumerate(names)
        ],
        "tasks": [_task(analysis, task) for task in analysis.store.contract.tasks],
        "improvement": [
            {
                "reference": reference,
                "rows": [
                    {"optimizer": name, "middle": found.middle, "low": found.low, "high": found.high}
                    for name in names
                    if (found := analysis.improvement(name, reference)) is not None
                ],
            }
            for reference in analysis.references
        ],
    }


def _task(analysis: Analysis, task: TaskTerms) -> dict[str, Any]:
    ranked = analysis.of_task(task.name)
    entered = [analysis.cell(task.name, terms.name) for terms in analysis.store.contract.optimizers]
    return {
        "name": task.name,
        "metric": task.metric,
        "unit": task.unit,
        "better": task.better,
        "curves": [_curves(cell) for cell in entered],
        "sensitivity": [_sensitivity(cell) for cell in entered],
        "finals": [_finals(cell) for cell in ranked if cell.finals],
    }


def _curves(cell: Cell) -> dict[str, Any]:
    curves = [run.curve for run in cell.finals]
    return {
        "optimizer": cell.terms.name,
        "seeds": [{"seed": run.config.seed, "state": run.result.state, **_columns(run.curve)} for run in cell.finals],
        "median": _median(cell, curves),
    }


def _columns(curve: list[CurvePoint]) -> dict[str, list[float | None]]:
    return {name: [_rounded(getattr(point, name)) for point in curve] for name in COLUMNS}


def _median(cell: Cell, curves: list[list[CurvePoint]]) -> dict[str, list[float | None]]:
    """Return the median over all seeds at each point; seeds that ended early count as the worst value."""
    longest = max(curves, key=len, default=list[CurvePoint]())
    median: dict[str, list[float | None]] = {name: [] for name in COLUMNS}
    for number, point in enumerate(longest):
        reached = [curve[number] for curve in curves if number < len(curve)]
        for name in COLUMNS:
            if name in ("step", "charged"):
                median[name].append(getattr(point, name))
            elif name == "seconds":
                median[name].append(_rounded(float(np.median([other.seconds for other in reached]))))
            else:
                worst = -np.inf if name == "validation" and cell.task.better == "max" else np.inf
                values = [getattr(other, name) for other in reached] + [None] * (len(curves) - len(reached))
                median[name].append(_rounded(float(np.median([worst if value is None else value for value in values]))))
    return median


def _rounded(value: float | None) -> float | None:
    """Five significant digits keep the file small; what is not finite cannot be drawn."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")


def _sensitivity(cell: Cell) -> dict[str, Any]:
    runs = sorted(cell.tuning, key=lambda run: run.config.point["lr"])
    space, usable = cell.terms.entry.space["lr"], cell.usable
    return {
        "optimizer": cell.terms.name,
        "lr": [run.config.point["lr"] for run in runs],
        "value": [_rounded(run.result.value) for run in runs],
        "point": [", ".join(f"{name} {value:.3g}" for name, value in run.config.point.items()) for run in runs],
        "state": [run.result.state for run in runs],
        "searched": [space.low, space.high],
        "usable": None if usable is None else [usable.low, usable.high],
        "decades": None if usable is None else f"{'≥ ' if usable.open else ''}{usable.decades:.1f}",
        "selected": None if cell.point is None else cell.point["lr"],
    }


def _finals(cell: Cell) -> dict[str, Any]:
    median = cell.median
    assert median is not None
    return {
        "optimizer": cell.terms.name,
        "seed": [run.config.seed for run in cell.finals],
        "value": [_rounded(run.result.value) for run in cell.finals],
        "state": [_state(run) for run in cell.finals],
        "median": _rounded(median.middle),
        "low": _rounded(median.low),
        "high": _rounded(median.high),
    }


def _state(run: Run) -> str:
    return run.result.state
