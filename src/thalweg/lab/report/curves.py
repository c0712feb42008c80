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
    """Return the median over all seeds at each point; seeds that ended early or hold no number count as the worst value."""
    longest = max(curves, key=len, default=list[CurvePoint]())
    if not longest:
        return {name: [] for name in COLUMNS}
    values = np.full((len(curves), len(longest), len(COLUMNS)), np.nan)
    for row, curve in zip(values, curves, strict=True):
        for number, point in enumerate(curve):
            row[number] = [getattr(point, name) for name in COLUMNS]
    median: dict[str, list[float | None]] = {}
    for number, name in enumerate(COLUMNS):
        if name in ("step", "charged"):
            median[name] = [getattr(point, name) for point in longest]
            continue
        column = values[:, :, number]
        if name == "seconds":
            found = np.nanmedian(column, axis=0)
        else:
            worst = -np.inf if name == "validation" and cell.task.better == "max" else np.inf
            found = np.median(np.where(np.isfinite(column), column, worst), axis=0)
        median[name] = [rounded(value) for value in found.tolist()]
    return median


def sharpness(cell: Cell) -> dict[str, Any] | None:
    """Return sharpness and threshold along the run that measured them; None if there is none, or it measured nothing."""
    curve = [] if cell.sharpness is None else [point for point in cell.sharpness.curve if point.sharpness is not None]
    return {"optimizer": cell.terms.name, **_columns(curve, SHARPNESS_COLUMNS)} if curve else None
