"""A race as one self-contained HTML file, and as plain data."""

import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from thalweg.lab.environment import environment
from thalweg.lab.page import write_page
from thalweg.lab.plain import plain
from thalweg.lab.race.drawing import colours, contours, momenta, steps
from thalweg.lab.race.run import ARRIVED, Race, Track
from thalweg.lab.race.show import COLUMNS, how, row, standings
from thalweg.lab.race.surfaces import Surface

MOST_POINTS = 1000
"""Of a track in the page; longer ones are thinned evenly."""


def write_race(path: Path, race: Race) -> Path:
    """Write the page and return its path.

    Raises:
        UserError: the file cannot be written.
    """
    return write_page(path, f"--output {path}", "race", view=_view(race), data=plain(_data(race)))


def summary(race: Race) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "surface": race.surface.name,
        "scale": race.surface.scale,
        "gradient_equivalents": race.budget,
        "trials": race.trials,
        "optimizers": [
            {
                "optimizer": track.optimizer,
                "lr": track.lr,
                "diverged": track.diverged,
                "settled": track.settled,
                "final": track.heights[-1].item(),
                "lowest": track.lowest,
                "steps": track.steps,
                "arrival_step": track.arrival,
                "arrival_gradients": None if track.arrival is None else track.charged[track.arrival].item(),
            }
            for track in standings(race)
        ],
    }


def command_of(race: Race) -> str:
    """The command that does it again."""
    names = ",".join(track.optimizer for track in race.tracks)
    return f"thalweg race {race.surface.name} -o {names} --steps {race.budget} --trials {race.trials}"


def _view(race: Race) -> dict[str, Any]:
    return {
        "title": f"Race: {race.surface.name}",
        "surface": race.surface,
        "how": how(race),
        "columns": COLUMNS,
        "rows": [row(track) for track in standings(race)],
        "command": command_of(race),
        "environment": environment(),
        "arrived": f"{ARRIVED:g}",
    }


def _data(race: Race) -> dict[str, Any]:
    x, y, z = contours(race.surface)
    inks = colours(race)
    return {
        "budget": race.budget,
        "arrived": ARRIVED,
        "window": race.surface.window,
        "start": race.surface.start,
        "minima": race.surface.minima,
        "contours": {"x": _numbers(x, 4), "y": _numbers(y, 4), "z": [_numbers(line, 4) for line in z]},
        "tracks": [
            {"name": track.optimizer, "colour": inks[track.optimizer], **_track(race.surface, track)}
            for track in race.tracks
        ],
    }


def _track(surface: Surface, track: Track) -> dict[str, Any]:
    kept = torch.arange(0, len(track.points), math.ceil(len(track.points) / MOST_POINTS))
    momentum = momenta(surface, track)
    return {
        "label": f"{track.optimizer}, lr {track.lr:.2g}{', diverged' if track.diverged else ''}",
        "step": kept.tolist(),
        "charged": _numbers(track.charged[kept], 6),
        "height": _numbers(track.heights[kept], 5),
        **_pair("", track.points[kept]),
        **_pair("d", steps(surface, track)[kept]),
        **({} if momentum is None else _pair("m", momentum[kept])),
    }


def _pair(prefix: str, points: Tensor) -> dict[str, list[float]]:
    return {prefix + "x": _numbers(points[:, 0], 6), prefix + "y": _numbers(points[:, 1], 6)}


def _numbers(values: Tensor, digits: int) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in cast("list[float]", values.tolist())]
