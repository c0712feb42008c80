"""A landscape as one self-contained HTML file, and as plain data."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from thalweg.lab.environment import environment
from thalweg.lab.landscape.run import Landscape, Trajectory
from thalweg.lab.landscape.show import COLUMNS, headline, notes, rows
from thalweg.lab.page import write_page
from thalweg.lab.plain import plain
from thalweg.lab.report.figures import COLOURS


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
    log = bool((known > 0).all())
    levels = landscape.heights.log10() if log else landscape.heights
    return {
        "title": headline(landscape),
        "budget": max(one.charged[-1] for one in landscape.trajectories),
        "log": log,
        "contours": {"x": _numbers(landscape.a), "y": _numbers(landscape.b), "z": [_numbers(row) for row in levels]},
        "tracks": [
            {"colour": COLOURS[i % len(COLOURS)], **_track(one, landscape.coordinates[i], landscape.under[i], landscape.off[i])}
            for i, one in enumerate(landscape.trajectories)
        ],
    }


def _track(one: Trajectory, found: Tensor, under: list[float], off: float) -> dict[str, Any]:
    return {
        "name": one.optimizer,
        "label": f"{one.optimizer}, lr {one.run.config.point['lr']:.2g}, {off:.0%} off",
        "x": _numbers(found[:, 0]),
        "y": _numbers(found[:, 1]),
        "step": one.steps,
        "charged": one.charged,
        "loss": one.losses,
        "under": under,
    }


def _numbers(values: Tensor) -> list[float | None]:
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
