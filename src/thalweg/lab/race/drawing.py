"""What the page and the GIF draw alike."""

import torch
from torch import Tensor

from thalweg.lab.race.run import Race, Track
from thalweg.lab.race.surfaces import Surface
from thalweg.lab.report.figures import COLOURS

GRID = (161, 121)
"""Points of the contours, across and up."""
FLOOR = 0.015
"""Part of the window that lies below the lowest contour: toward a minimum the logarithm falls without end."""
REACH = 0.13
"""Of the window's width: the longest arrow."""


def colours(race: Race) -> dict[str, str]:
    """The colour of each optimizer, in the order they entered."""
    return {track.optimizer: COLOURS[i % len(COLOURS)] for i, track in enumerate(race.tracks)}


def contours(surface: Surface, size: tuple[int, int] = GRID) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y and log₁₀(f − f*), the lowest part of the window level."""
    x, y = (torch.linspace(*ends, n, dtype=torch.float64) for ends, n in zip(surface.window, size, strict=True))
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    heights = surface.heights(points)
    return x, y, heights.clamp(min=heights.quantile(FLOOR)).log10()


def steps(surface: Surface, track: Track) -> Tensor:
    """Return the arrows of the last step at each point, (steps + 1, 2)."""
    return _arrows(surface, torch.diff(track.points, dim=0, prepend=track.points[:1]))


def momenta(surface: Surface, track: Track) -> Tensor | None:
    """Return the arrows of the momentum, downhill, at each point; None if the rule keeps none."""
    return None if track.momenta is None else _arrows(surface, -track.momenta)


def _arrows(surface: Surface, vectors: Tensor) -> Tensor:
    """Scale vectors to be seen: as long as the root of their part of the longest, so that the last and shortest still show."""
    (left, right), _ = surface.window
    lengths = vectors.square().sum(1, keepdim=True).sqrt()
    part = lengths / lengths.nan_to_num(0.0, posinf=0.0).max()  # of a run that diverged, the last are not finite
    return (REACH * (right - left) * part.sqrt() * vectors / lengths).nan_to_num(0.0, 0.0, 0.0)
