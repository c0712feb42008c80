"""The data of the figures along training: learning curves, sharpness. A failed run's value is null."""

from typing import Any

import numpy as np

from thalweg.lab.analysis import Cell
from thalweg.lab.records import CurvePoint

COLUMNS = ("step", "charged", "seconds", "train_loss", "validation_loss", "validation")
SHARPNESS_COLUMNS = ("step", "charged", "seconds", "sharpness", "threshold")
MOST_SEEDS = 20
"""So many seeds of an optimizer are drawn, the first; more could not be told apart. The median is that of all."""


def rounded(value: float | None) -> float | None:
    """Five significant digits keep the file small; what is not finite cannot be drawn."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.5g}")


def learning_curves(cell: Cell) -> dict[str, Any]:
    """Return every seed's curve and their median."""
    return {
        "optimizer": cell.terms.name,
        "seeds": [
            {"seed": run.config.seed, "state": run.result.state, **_columns(run.curve, COLUMNS)}
            for run in cell.finals[:MOST_SEEDS]
        ],
        "median": _median(cell, [run.curve for run in cell.finals]),
    }


def _columns(curve: list[CurvePoint], names: tuple[str, ...]) -> dict[str, list[float | None]]:
    return {name: [rounded(getattr(point, name)) for point in curve] for name in names}


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
                median[name].append(rounded(float(np.median([other.seconds for other in reached]))))
            else:
                worst = -np.inf if name == "validation" and cell.task.better == "max" else np.inf
                values = [getattr(other, name) for other in reached] + [None] * (len(curves) - len(reached))
                median[name].append(rounded(float(np.median([worst if value is None else value for value in values]))))
    return median


def sharpness(cell: Cell) -> dict[str, Any] | None:
    """Return sharpness and threshold along the run that measured them; None if there is none, or it measured nothing."""
    curve = [] if cell.sharpness is None else [point for point in cell.sharpness.curve if point.sharpness is not None]
    return {"optimizer": cell.terms.name, **_columns(curve, SHARPNESS_COLUMNS)} if curve else None
