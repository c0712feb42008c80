"""Planes through the space of all parameters, the same for all trajectories.

Snapshots are rows of a float32 matrix (R, n); sums over n are taken in float64, a block of columns at a time. Nothing of size
n × n is ever made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

BLOCK = 1 << 16
"""Columns in float64 at a time."""


@dataclass(frozen=True)
class Plane:
    """origin + a d₁ + b d₂, where (a, b) are the coordinates."""

    origin: Tensor
    """(n)"""
    directions: Tensor
    """(2, n): d₁, d₂, linearly independent."""

    def at(self, a: float, b: float) -> Tensor:
        """The parameters at coordinates."""
        return self.origin + a * self.directions[0] + b * self.directions[1]

    def coordinates(self, points: Tensor) -> Tensor:
        """Return the coordinates (R, 2) of the nearest points of the plane: (x − origin) Dᵀ (D Dᵀ)⁻¹."""
        return self._weights(_products(points, self.directions, self.origin))

    def _weights(self, overlaps: Tensor) -> Tensor:
        """Return c (R, 2) so that c D is nearest to points whose products with D are the overlaps: overlaps (D Dᵀ)⁻¹."""
        return cast(Tensor, torch.linalg.solve(_products(self.directions, self.directions), overlaps.T).T)

    def distances(self, points: Tensor) -> Tensor:
        """Return how far points (R, n) lie off the plane, (R)."""
        inside = self.coordinates(points)
        squares = torch.zeros(len(points), dtype=torch.float64)
        for block in _blocks(self.origin):
            left = points[:, block].double() - self.origin[block].double() - inside @ self.directions[:, block].double()
            squares += left.square().sum(1)
        return squares.sqrt()

    def explained(self, points: Tensor) -> float:
        """Return the part of the points' variance about their mean that lies along the plane."""
        overlaps = _products(points, self.directions, points.mean(0))
        along = (self._weights(overlaps) * overlaps).sum()  # Σ‖c D‖², of c D Dᵀ = overlaps
        total = _products(points, points, points.mean(0), points.mean(0)).trace()
        return (along / total).item()


def principal(points: Tensor) -> Plane:
    """Return the plane nearest to all points in the mean square: their mean and first two principal directions.

    The directions are those of the eigenvectors of the Gram matrix (X − x̄)(X − x̄)ᵀ, R × R, scaled to length 1.

    Args:
        points: (R, n), R ≥ 3: the snapshots of all runs together. Of one run alone, or about one run's last point, the plane
            would favour that run.
    """
    mean = points.mean(0)
    values, vectors = cast(tuple[Tensor, Tensor], torch.linalg.eigh(_products(points, points, mean, mean)))
    weights = (vectors[:, -2:] / values[-2:].clamp(min=torch.finfo(torch.float64).tiny).sqrt()).flip(1).T
    directions = torch.cat(
        [(weights @ (points[:, block].double() - mean[block].double())).float() for block in _blocks(mean)], 1
    )
    return Plane(mean, directions)


def random_filters(origin: Tensor, shapes: Sequence[torch.Size], generator: torch.Generator) -> Plane:
    """Return the plane through a point along two random directions, normalized by filters.

    d ← d ‖θ‖/‖d‖ for each filter θ, the weights of one output; biases, and other vectors, do not move. Source: Li et al. 2018,
    arXiv:1712.09913, sect. 4. Random directions hold next to nothing of a trajectory, which is the same paper's warning: prefer
    `principal`.

    Args:
        origin: (n), the parameters joined.
        shapes: of the parameters, in order.
        generator: of the directions.
    """
    directions = torch.empty(2, len(origin))
    for direction in directions:
        start = 0
        for shape in shapes:
            size = shape.numel()
            direction[start : start + size] = _filters(origin[start : start + size].reshape(shape), generator).flatten()
            start += size
    return Plane(origin, directions)


def _filters(weights: Tensor, generator: torch.Generator) -> Tensor:
    if weights.ndim < 2:
        return torch.zeros_like(weights)
    drawn = torch.randn(weights.shape, generator=generator).flatten(1)
    wanted = weights.flatten(1).square().sum(1, keepdim=True)
    return (drawn * (wanted / drawn.square().sum(1, keepdim=True)).sqrt()).reshape(weights.shape)


def oriented(plane: Plane, movements: Tensor) -> Plane:
    """Return the plane with its directions turned so that movements (R, n) go right and up in sum."""
    signs = torch.where(_products(movements, plane.directions).sum(0) < 0, -1.0, 1.0).float()
    return Plane(plane.origin, plane.directions * signs[:, None])


def _products(x: Tensor, y: Tensor, x0: Tensor | None = None, y0: Tensor | None = None) -> Tensor:
    """Return (x − x0)(y − y0)ᵀ in float64."""
    total = torch.zeros(len(x), len(y), dtype=torch.float64)
    for block in _blocks(x[0]):
        total += _centred(x, x0, block) @ _centred(y, y0, block).T
    return total


def _centred(x: Tensor, x0: Tensor | None, block: slice) -> Tensor:
    part = x[:, block].double()
    return part if x0 is None else part - x0[block].double()


def _blocks(x: Tensor) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, len(x), BLOCK))
