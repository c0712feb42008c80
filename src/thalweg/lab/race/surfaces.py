"""The surfaces of `thalweg race`: functions of two variables, each hard in one way that training is hard in too."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.lab.errors import check_name

Point = tuple[float, float]


@dataclass(frozen=True)
class Surface:
    """A function of two variables."""

    name: str
    formula: str
    trouble: str
    """What makes it hard."""
    source: str
    f: Callable[[Tensor, Tensor], Tensor]
    start: Point
    minima: tuple[Point, ...]
    """Where f is lowest; there may be higher minima."""
    window: tuple[Point, Point]
    """What is drawn: the ends of x, the ends of y."""
    scale: float = 1.0
    """Optimizers see f/scale, whose curvature is at most about 10 at the start, so that the learning rates of rules that do not
    divide by gradients lie where the lab searches them."""

    def loss(self, point: Tensor) -> Tensor:
        """f/scale at a point (2,): what optimizers see."""
        return self.f(point[0], point[1]) / self.scale

    @property
    def lowest(self) -> float:
        """f*, the value at the minima."""
        return self.f(*torch.tensor(self.minima[0], dtype=torch.float64)).item()

    def heights(self, points: Tensor) -> Tensor:
        """f − f* at points (…, 2)."""
        return self.f(points[..., 0], points[..., 1]) - self.lowest


def _rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _beale(x: Tensor, y: Tensor) -> Tensor:
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _rastrigin(x: Tensor, y: Tensor) -> Tensor:
    return 20 + x**2 + y**2 - 10 * (torch.cos(2 * math.pi * x) + torch.cos(2 * math.pi * y))


def _saddle(x: Tensor, y: Tensor) -> Tensor:
    return x**2 / 2 + y**4 / 4 - y**2 / 2


CONDITION = 100
"""Of the ravine: its largest curvature over its smallest."""
ANGLE = math.pi / 6
"""Of the ravine: turned, so that no rule that scales the axes one by one can straighten it."""


def _ravine(x: Tensor, y: Tensor) -> Tensor:
    along, across = (
        math.cos(ANGLE) * x + math.sin(ANGLE) * y,
        math.cos(ANGLE) * y - math.sin(ANGLE) * x,
    )
    return (along**2 + CONDITION * across**2) / 2


SURFACES = {
    surface.name: surface
    for surface in [
        Surface(
            name="rosenbrock",
            formula="(1 − x)² + 100 (y − x²)²",
            trouble="a curved valley with steep walls and a flat floor",
            source="Rosenbrock 1960, doi:10.1093/comjnl/3.3.175; the start is that of Moré, Garbow & Hillstrom 1981,"
            " doi:10.1145/355934.355936, problem 1",
            f=_rosenbrock,
            start=(-1.2, 1.0),
            minima=((1.0, 1.0),),
            window=((-1.7, 1.7), (-0.7, 1.9)),
            scale=100,
        ),
        Surface(
            name="beale",
            formula="(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
            trouble="a plateau between walls that rise with the sixth power",
            source="Beale 1958; the start is that of Moré, Garbow & Hillstrom 1981, doi:10.1145/355934.355936, problem 5",
            f=_beale,
            start=(1.0, 1.0),
            minima=((3.0, 0.5),),
            window=((-0.6, 4.2), (-1.1, 1.5)),
            scale=10,
        ),
        Surface(
            name="rastrigin",
            formula="20 + x² − 10 cos 2πx + y² − 10 cos 2πy",
            trouble="a bowl full of local minima, one near every pair of whole numbers",
            source="Rastrigin 1974; in this form Mühlenbein, Schomisch & Born 1991, doi:10.1016/S0167-8191(05)80052-3",
            f=_rastrigin,
            start=(-2.3, 1.7),
            minima=((0.0, 0.0),),
            window=((-3.3, 3.3), (-2.6, 2.6)),
            scale=100,
        ),
        Surface(
            name="saddle",
            formula="x²/2 + y⁴/4 − y²/2",
            trouble="the way down begins across a saddle, where the gradient is nearly zero",
            source="Nesterov 2004, Introductory Lectures on Convex Optimization, sect. 1.2.3",
            f=_saddle,
            start=(-1.6, 0.001),
            minima=((0.0, 1.0), (0.0, -1.0)),
            window=((-2.0, 2.0), (-1.55, 1.55)),
        ),
        Surface(
            name="ravine",
            formula=f"(u² + {CONDITION} v²)/2, u and v turned by 30° to x and y",
            trouble=f"a quadratic, {CONDITION} times as steep across as along",
            source="Sutton 1986, Two problems with backpropagation and other steepest-descent learning procedures; the"
            " setting of Polyak 1964, doi:10.1016/0041-5553(64)90137-5",
            f=_ravine,
            start=(-1.5, -0.4),
            minima=((0.0, 0.0),),
            window=((-1.9, 1.0), (-1.2, 0.8)),
            scale=10,
        ),
    ]
}


def surface_named(name: str) -> Surface:
    """Return the surface of a name.

    Raises:
        UserError: there is none.
    """
    return SURFACES[check_name("surface", name, SURFACES)]
