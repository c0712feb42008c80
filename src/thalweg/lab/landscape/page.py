"""A landscape as one self-contained HTML file, and as plain data."""

import math
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from thalweg.lab.environment import environment
from thalweg.lab.landscape.run import Landscape
from thalweg.lab.landscape.show import COLUMNS, headline, notes, rows
from thalweg.lab.page import write_page
from thalweg.lab.plain import plain
from thalweg.lab.report.figures import COLOURS

SOFTENING = 0.03
"""Of the median excess: contours are evenly spread in the logarithm of the excess over the lowest loss plus this. A logarithm
of the excess alone falls without end, and one of the loss is flat where the loss cannot come near 0."""


def write_landscape(path: Path, landscape: Landscape) -> Path:
    """Write the page and return its path.

    Raises:
        UserError: the file cannot be written.
    """
    return write_page(path, f"--output {path}", "landscape", view=_view(landscape), data=plain(_data(landscape)))


def summary(landscape: Landscape) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "task": landscape.request.task.name,
        "seed": landscape.request.seed,
        "plane": landscape.request.plane,
        "explained": landscape.explained,
        "optimizers": [
            {
                "optimizer": one.optimizer,
                "keywords": dict(one.run.config.keywords),
                "off_plane": off,
                "extent": one.extent,
                "loss": one.losses[-1],
                "same_as_stored": one.same,
            }
            for one, off in zip(landscape.trajectories, landscape.off, strict=True)
        ],
        "notes": notes(landscape),
    }


def _view(landscape: Landscape) -> dict[str, Any]:
    request = landscape.request
    return {
        "title": f"Landscape: {request.task.name}",
        "task": request.task.summary,
        "parameters": f"{landscape.plane.origin.numel():,}",
        "examples": f"{len(request.task.probe[0]):,}",
        "request": request,
        "study": request.runs[0].config.study,
        "headline": headline(landscape),
        "notes": notes(landscape),
        "columns": COLUMNS,
        "rows": rows(landscape),
        "command": request.command,
        "environment": environment(),
    }


def _data(landscape: Landscape) -> dict[str, Any]:
    known = landscape.heights[landscape.heights.isfinite()]
    excess = landscape.heights - known.min()
    softening = float(SOFTENING * (known - known.min()).median())
    levels = (excess + softening).log10()
    return {
        "title": headline(landscape),
        "budget": max(one.charged[-1] for one in landscape.trajectories),
        "level_zero": float(known.min()) - softening,
        "contours": {"x": _numbers(landscape.a), "y": _numbers(landscape.b), "z": [_numbers(row) for row in levels]},
        "tracks": [
            {"colour": COLOURS[i % len(COLOURS)], **_track(landscape, i)} for i in range(len(landscape.trajectories))
        ],
    }


def _track(landscape: Landscape, i: int) -> dict[str, Any]:
    one, found = landscape.trajectories[i], landscape.coordinates[i]
    return {
        "name": one.optimizer,
        "label": f"{one.optimizer}, lr {one.run.config.point['lr']:.2g}, {landscape.off[i]:.0%} off plane",
        "x": _numbers(found[:, 0]),
        "y": _numbers(found[:, 1]),
        "step": one.steps,
        "charged": one.charged,
        "loss": one.losses,
        "under": landscape.under[i],
    }


def _numbers(values: Tensor) -> list[float | None]:
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in cast("list[float]", values.tolist())]
