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
LEAST = 4  # products before anything is believed: a lucky start looks converged


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues of a symmetric operator, the most extreme first, and vectors.

    Attributes:
        eigenvalues: (k,), float64, on the CPU.
        residuals: (k,), ‖Ax − θx‖ of each pair, rounding included: an eigenvalue lies within this distance of θ.
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
) -> Eigenpairs:
    """The k most extreme eigenvalues of an operator, with vectors, by Lanczos with full orthogonalization and thick restart.

    It stops when all k residuals are at most ``tol`` times the largest |θ|.  One vector shows an eigenvalue once, however often
    it occurs, and now and then not at all: so with k > 1 another random vector joins, until it brings no change.
    The first Ritz value is never above the largest eigenvalue; θ + residual is the cautious value.

    Args:
        operator: a matrix known by its products.
        k: how many.
        which: ``"largest"`` or ``"smallest"`` by value, or ``"magnitude"``.
        tol: relative residual.  The error of θ is smaller: of the order of its square, where no eigenvalue is near.
        max_products: when to give up; None: 100 + 20 k.
        start: a vector, or earlier eigenpairs, to begin near; a random part half as large joins, as nothing new is found
            without.  Worth it if the operator changed little.
        seed: of the random vectors, which come of a generator of their own.
        capacity: how many vectors are kept, before a restart from the best; None: max(24, 4 k).
        basis: their dtype; ``torch.bfloat16`` halves their memory, at residuals of a percent.
        device: where they are kept, if not with the operator.

    Raises:
        ValueError: k that is not from 1 to n, or another argument that is not allowed.
        FloatingPointError: a product that is not finite.
    """
    n = operator.space.size
    Range(1, n, closed=True, whole=True).check(f"eigenpairs: k of an operator of {n} dimensions", k)
    Choice(tuple(ORDERS)).check("eigenpairs: which", which)
    Range(0.0, 1.0).check("eigenpairs: tol", tol)
    kept = min(n, max(24, 4 * k) if capacity is None else capacity)
    Range(min(n, 2 * k + 2), n, closed=True, whole=True).check("eigenpairs: capacity", kept)
    limit = 100 + 20 * k if max_products is None else max_products
    Range(1, whole=True).check("eigenpairs: max_products", limit)

    generator = torch.Generator().manual_seed(seed)
    space, before = operator.space, operator.cost.gradient_equivalents
    krylov = Krylov(operator, kept, basis, device)
    krylov.add(beginning(operator, start, generator))
    eps = torch.finfo(space.dtype).eps
    confirmed = k == 1
    wait = LEAST  # how many products must be made before the residuals are looked at
    while True:
        krylov.step()
        theta, residuals, vectors = krylov.ritz()
        if not theta.isfinite().all():
            raise FloatingPointError("eigenpairs: a product with the operator is not finite.")
        best = ORDERS[which](theta).argsort()[:k]
        scale = theta.abs().max().item()
        residuals = residuals + 8 * eps * scale * max(len(theta), 1) ** 0.5  # what rounding adds
        done = len(best) == k and bool((residuals[best] <= max(tol, 32 * eps * n**0.5) * scale).all())
        exhausted = krylov.multiplied == krylov.count
        if krylov.multiplied == n or krylov.products >= limit:
            break
        if done and krylov.products >= wait and confirmed:
            break
        if krylov.count == krylov.capacity:
            keep = ORDERS[which](theta).argsort()[: max(k, min(kept // 2, kept - 4))]
            krylov.restart(vectors[:, keep], theta[keep])
        if (done and krylov.products >= wait) or exhausted:
            krylov.add_random(generator)
            confirmed, wait = True, krylov.products + max(LEAST, krylov.products // 2)
    return Eigenpairs(
        eigenvalues=theta[best],
        residuals=residuals[best],
        eigenvectors=krylov.combined(vectors[:, best]).T,
        products=krylov.products,
        gradient_equivalents=float(operator.cost.gradient_equivalents - before),
        converged=done,
    )


def beginning(operator: Operator, start: Tensor | Eigenpairs | None, generator: torch.Generator) -> Tensor:
    """The first vector."""
    noise = operator.space.random(generator)
    if start is None:
        return noise
    v = start.eigenvectors.sum(1) if isinstance(start, Eigenpairs) else start
    return v + 0.5 * noise * (operator.space.norm(v) / operator.space.norm(noise))
