"""The data of the figures about tuning: sensitivity to the learning rate, expected best of k trials."""

from typing import Any

from thalweg.lab.analysis import Cell
from thalweg.lab.report.curves import rounded


def sensitivity(cell: Cell) -> dict[str, Any]:
    """Return every trial by its learning rate, and the usable range."""
    runs = sorted(cell.tuning, key=lambda run: run.config.point["lr"])
    space, usable = cell.terms.entry.space["lr"], cell.usable
    return {
        "optimizer": cell.terms.name,
        "lr": [run.config.point["lr"] for run in runs],
        "value": [rounded(run.result.value) for run in runs],
        "point": [", ".join(f"{name} {value:.3g}" for name, value in run.config.point.items()) for run in runs],
        "state": [run.result.state for run in runs],
        "searched": [space.low, space.high],
        "usable": None if usable is None else [usable.low, usable.high],
        "decades": None if usable is None else f"{'≥ ' if usable.open else ''}{usable.decades:.1f}",
        "selected": None if cell.point is None else cell.point["lr"],
    }


def best_of(cell: Cell) -> dict[str, Any]:
    """Return the expected best metric of k = 1, 2, … trials."""
    return {"optimizer": cell.terms.name, "value": [rounded(value) for value in cell.expected_best]}
