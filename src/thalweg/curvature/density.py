"""How the eigenvalues of an operator are distributed, by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from thalweg.core.allowed import Range
from thalweg.curvature.krylov import Krylov, eigh
from thalweg.curvature.operators import Operator


@dataclass(frozen=True)
class Density:
    """The distribution of an operator's eigenvalues: a share wᵢ of them near each node θᵢ, and a curve of it.

    Attributes:
        nodes: (m,), ascending, float64, on the CPU: the Ritz values of all vectors.
        weights: (m,), which share of the n eigenvalues each stands for; they sum to 1.
        grid: (points,), where the curve was computed.
        values: (points,), ``Σ wᵢ N(x; θᵢ, σ²)``: the density with every node widened to a Gaussian; its integral is 1.
        width: σ.
        trace: ``n Σ wᵢ θᵢ``, the sum of all eigenvalues.
        trace_error: its standard error, from how the vectors differ; NaN of one.
        smallest, largest: the extreme nodes.  Each is an extreme eigenvalue or lies inside of it.
        products: how many were used.
        gradient_equivalents: what they cost, in gradients.
    """

    nodes: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)
    grid: Tensor = field(repr=False)
    values: Tensor = field(repr=False)
    width: float
    trace: float
    trace_error: float
    smallest: float
    largest: float
    products: int
    gradient_equivalents: float


def density(
    operator: Operator,
    *,
    vectors: int = 10,
    steps: int = 60,
    seed: int = 0,
    points: int = 1000,
    width: float | None = None,
) -> Density:
    """The spectral density of an operator, from Lanczos processes begun at random vectors of ±1.

    Each gives T = SΘSᵀ, and the share ``wᵢ = s₁ᵢ²`` of its start in Ritz vector i: the Gauss quadrature of the start's
    spectral measure, exact for polynomials of degree 2·steps − 1.  The mean over vectors estimates the operator's own.
    Ubaru et al. 2017, SIAM J. Matrix Anal. Appl. 38 (4); for networks Ghorbani et al. 2019, arXiv:1901.10159, Algorithm 1.

    Args:
        operator: a matrix known by its products.
        vectors: how many; the error of the trace falls as their square root.
        steps: products for each, or fewer where they span everything that the start has part in.  They are kept while it
            runs: that many vectors of memory.
        seed: of the random vectors, which come of a generator of their own.
        points: of the curve, from 3 σ below the least node to 3 σ above the largest.
        width: σ; None: a hundredth of the nodes' range.

    Raises:
        ValueError: an argument that is not allowed.
        FloatingPointError: a product that is not finite.
    """
    for name, value, least in (("vectors", vectors, 1), ("steps", steps, 1), ("points", points, 2)):
        Range(least, whole=True).check(f"density: {name}", value)
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"density: width={width!r} is out of range; it must be above 0, or None for one that fits.")
    generator, before = torch.Generator().manual_seed(seed), operator.cost.gradient_equivalents
    rules: list[tuple[Tensor, Tensor]] = []
    products = 0
    for _ in range(vectors):
        theta, share, used = quadrature(operator, operator.space.random(generator, "rademacher"), steps)
        rules.append((theta, share))
        products += used
    nodes, order = torch.cat([theta for theta, _ in rules]).sort()
    weights = torch.cat([share for _, share in rules])[order] / vectors
    traces = operator.space.size * torch.stack([theta @ share for theta, share in rules])
    extent = (nodes[-1] - nodes[0]).item()
    sigma = width or extent / 100 or max(abs(nodes[0].item()), 1.0) / 100  # of a multiple of I: a hundredth of it
    grid = torch.linspace(nodes[0].item() - 3 * sigma, nodes[-1].item() + 3 * sigma, points, dtype=torch.float64)
    return Density(
        nodes=nodes,
        weights=weights,
        grid=grid,
        values=smoothed(nodes, weights, grid, sigma),
        width=sigma,
        trace=traces.mean().item(),
        trace_error=traces.std().item() / math.sqrt(vectors) if vectors > 1 else math.nan,
        smallest=nodes[0].item(),
        largest=nodes[-1].item(),
        products=products,
        gradient_equivalents=float(operator.cost.gradient_equivalents - before),
    )


def quadrature(operator: Operator, start: Tensor, steps: int) -> tuple[Tensor, Tensor, int]:
    """Nodes and weights of the start's spectral measure, and the products they took."""
    steps = min(steps, operator.space.size)
    krylov = Krylov(operator, steps)
    krylov.add(start)
    while krylov.multiplied < krylov.count:
        krylov.step()
    theta, S = eigh(krylov.T)
    return theta, S[0].square(), krylov.products


def smoothed(nodes: Tensor, weights: Tensor, grid: Tensor, sigma: float) -> Tensor:
    """``Σ wᵢ N(x; θᵢ, σ²)`` at the points x of the grid."""
    z = (grid[:, None] - nodes) / sigma
    return (-z.square() / 2).exp() @ weights / (sigma * math.sqrt(2 * math.pi))
