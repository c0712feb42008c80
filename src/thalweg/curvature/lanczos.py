"""Extreme eigenvalues of an operator by the Lanczos process, with bounds on their errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from thalweg.core.allowed import Choice, Range
from thalweg.curvature.krylov import Krylov
from thalweg.curvature.operators import Operator

Which = Literal["largest", "smallest", "magnitude"]
ORDERS: dict[str, Callable[[Tensor], Tensor]] = {
    "largest": torch.neg,
    "smallest": torch.clone,
    "magnitude": lambda x: -x.abs(),
}
LEAST = 4  # products of each vector before anything is believed: a lucky start looks converged
STARTS = 3  # random vectors to begin with, for several eigenvalues


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues of a symmetric operator, the most extreme first, and vectors.

    Attributes:
        eigenvalues: (k,), float64, on the CPU.
        residuals: (k,), ‖Ax − θx‖ of each pair, rounding included: an eigenvalue lies within this distance of θ.  Where the
            residual of a pair that is not among the k reaches farther, the distance up to there.  Which eigenvalue θ is,
            the first or the fifth, is settled no finer than by the tolerance.
        eigenvectors: (n, k), orthonormal columns; of sharded parameters each process holds its rows.
        products: how many were used.
        gradient_equivalents: what they cost, in gradients.
        converged: whether every residual reached the tolerance.
    """

    eigenvalues: Tensor
    residuals: Tensor
    eigenvectors: Tensor = field(repr=False)
    products: int
    gradient_equivalents: float
    converged: bool


def eigenpairs(
    operator: Operator,
    k: int = 1,
    *,
    which: Which = "largest",
    tol: float = 1e-2,
    max_products: int | None = None,
    start: Tensor | Eigenpairs | None = None,
    seed: int = 0,
    capacity: int | None = None,
    basis: torch.dtype | None = None,
    device: torch.device | str | None = None,
    confirm: bool = True,
) -> Eigenpairs:
    """The k most extreme eigenvalues of an operator, with vectors, by Lanczos with full orthogonalization and thick restart.

    It stops when all k residuals are at most ``tol`` times the largest |θ|.  One vector shows an eigenvalue once, however often
    it occurs, and now and then, being almost orthogonal to its eigenvector, not at all.  So up to three random vectors begin,
    at most k; and when all is settled another joins, is followed up for half as many products as each of them took, and the
    next, until one brings no change.
    The first Ritz value is never above the largest eigenvalue; θ + residual is the cautious value.

    Args:
        operator: a matrix known by its products.
        k: how many.
        which: ``"largest"`` or ``"smallest"`` by value, or ``"magnitude"``.
        tol: relative residual.  The error of θ is smaller: of the order of its square, where no eigenvalue is near.
        max_products: when to give up, k or more; None: 100 + 20 k.
        start: a vector, or earlier eigenpairs, to begin near; a random part half as large joins, as nothing new is found
            without.  Worth it if the operator changed little.
        seed: of the random vectors, which come of a generator of their own.
        capacity: how many vectors are kept, before a restart from the best; None: max(24, 4 k).  Few leave less room for
            vectors that join.
        basis: their dtype; ``torch.bfloat16`` halves their memory, at residuals of a percent.
        device: where they are kept, if not with the operator.
        confirm: whether other vectors look for what the first has missed.  Without, fewer products do, as other libraries
            make; then one probe of a run in many may be too low, by as much as the next eigenvalue is.

    Raises:
        ValueError: k that is not from 1 to n, or another argument that is not allowed.
        FloatingPointError: a product that is not finite.
    """
    n = operator.space.size
    Range(1, n, closed=True, whole=True).check(f"eigenpairs: k of an operator of {n} dimensions", k)
    Choice(tuple(ORDERS)).check("eigenpairs: which", which)
    Range(0.0, 1.0).check("eigenpairs: tol", tol)
    kept = min(n, max(24, 4 * k)) if capacity is None else capacity
    Range(min(n, 2 * k + 2), n, closed=True, whole=True).check("eigenpairs: capacity", kept)
    limit = 100 + 20 * k if max_products is None else max_products
    Range(k, whole=True).check("eigenpairs: max_products", limit)

    generator = torch.Generator().manual_seed(seed)
    before, starts = operator.cost.gradient_equivalents, min(k, STARTS) if confirm else 1
    krylov = Krylov(operator, kept, basis, device)
    krylov.add(beginning(operator, start, generator))
    for _ in range(starts - 1):
        krylov.add_random(generator)
    agreed: Tensor | None = None
    wait = max(k, LEAST * starts)  # how many products must be made before the residuals are believed
    follow = 0  # and of them, up to which one what joined last is followed up
    while True:
        krylov.step(newest=krylov.products < follow)
        pairs = RitzPairs.best_of(krylov, k, ORDERS[which], tol)
        if krylov.multiplied == n or krylov.products >= limit:
            break
        settled = pairs.converged and krylov.products >= wait
        pending = krylov.count - krylov.multiplied
        joinable = kept == n or kept - k - pending >= 2
        if settled and (not confirm or pairs.agree_with(agreed) or not joinable):
            break
        if krylov.count == kept < n:
            pairs.restart(krylov, k)
        if settled or not pending:
            krylov.add_random(generator)
        if settled:
            agreed, follow = pairs.values, krylov.products + max(LEAST, krylov.products // (2 * starts))
            wait = follow + pending  # these after it: they may point where the start had next to no part
    return Eigenpairs(
        eigenvalues=pairs.values,
        residuals=pairs.bounds,
        eigenvectors=krylov.finished(pairs.coefficients[:, :k], pairs.values).T,
        products=krylov.products,
        gradient_equivalents=float(operator.cost.gradient_equivalents - before),
        converged=pairs.converged,
    )


@dataclass(frozen=True)
class RitzPairs:
    """What a Krylov space says of the k wanted eigenvalues.

    Attributes:
        values, bounds: (k,), θ, and how far from it the eigenvalue may be.
        tolerance: how large a bound may be.
        ritz, coefficients: all Ritz values and the coefficients of their vectors, the wanted first.
    """

    values: Tensor
    bounds: Tensor
    tolerance: float
    ritz: Tensor
    coefficients: Tensor

    @classmethod
    def best_of(cls, krylov: Krylov, k: int, order: Callable[[Tensor], Tensor], tol: float) -> RitzPairs:
        """The k first in the order, or as many as there are."""
        theta, residuals, vectors = krylov.ritz()
        by_order = order(theta).argsort()
        theta, residuals, vectors = theta[by_order], residuals[by_order], vectors[:, by_order]
        eps, scale = torch.finfo(krylov.space.dtype).eps, theta.abs().max().item()
        residuals = residuals + 8 * eps * scale * len(theta) ** 0.5  # what rounding adds
        # Any other pair stands for an eigenvalue that may be as far up the order as its residual reaches.
        reach = (order(theta) - residuals)[k:].min() if len(theta) > k else order(theta)[-1]
        bounds = torch.maximum(residuals, order(theta) - reach)[:k]
        least = 32 * eps * krylov.space.size**0.5  # what rounding leaves
        return cls(theta[:k], bounds, max(tol, least) * scale, theta, vectors)

    @property
    def converged(self) -> bool:
        """Whether all k are there, and their bounds small enough."""
        return bool((self.bounds <= self.tolerance).all())

    def agree_with(self, others: Tensor | None) -> bool:
        """Whether these were the values before."""
        return others is not None and bool(((self.values - others).abs() <= self.tolerance).all())

    def restart(self, krylov: Krylov, k: int) -> None:
        """Keep the best half, and room for a vector that joins and a product."""
        pending = krylov.count - krylov.multiplied
        keep = max(k, min(krylov.capacity // 2, krylov.capacity - pending - 2))
        krylov.restart(self.coefficients[:, :keep], self.ritz[:keep])


def beginning(operator: Operator, start: Tensor | Eigenpairs | None, generator: torch.Generator) -> Tensor:
    """The first vector."""
    noise = operator.space.random(generator)
    if start is None:
        return noise
    v = start.eigenvectors.sum(1) if isinstance(start, Eigenpairs) else start
    return v + 0.5 * noise * (operator.space.norm(v) / operator.space.norm(noise))
