"""Trace and diagonal of an operator, estimated from its products with random vectors of ±1."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from thalweg.core.allowed import Choice, Range
from thalweg.curvature.krylov import Krylov
from thalweg.curvature.operators import Operator

Method = Literal["hutchinson", "hutch++"]


@dataclass(frozen=True)
class Trace:
    """The estimated sum of an operator's diagonal, which is that of its eigenvalues.

    Attributes:
        value: the estimate.
        standard_error: its standard deviation, from how the samples differ; 0 where nothing was left to chance.
        products: how many were used.
        gradient_equivalents: what they cost, in gradients.
    """

    value: float
    standard_error: float
    products: int
    gradient_equivalents: float


@dataclass(frozen=True)
class Diagonal:
    """The estimated diagonal of an operator.

    Attributes:
        values: (n,), the estimates; of sharded parameters what this process holds.
        standard_errors: (n,), their standard deviations, from how the samples differ.
        products: how many were used.
        gradient_equivalents: what they cost, in gradients.
    """

    values: Tensor = field(repr=False)
    standard_errors: Tensor = field(repr=False)
    products: int
    gradient_equivalents: float


def trace(operator: Operator, *, products: int = 100, method: Method = "hutchinson", seed: int = 0) -> Trace:
    """The trace, without bias.

    - ``"hutchinson"``: the mean of ``zᵀAz`` over random vectors z of ±1.  Its variance is ``2 Σ_{i≠j} Aᵢⱼ²`` over their
      number.  Hutchinson 1990.
    - ``"hutch++"``: ``tr QᵀAQ`` exactly, for an orthonormal basis Q of A's products with a third of the vectors, and
      Hutchinson's mean with ``(I − QQᵀ)z`` for the rest.  Better where few eigenvalues make up most of the matrix, and worse
      where none do.  Meyer et al. 2021, arXiv:2010.09649, Algorithm 1.  Q is kept while it runs: a third of ``products``
      vectors of memory.

    Args:
        operator: a matrix known by its products.
        products: how many to spend: 2 or more, and 6 or more for ``"hutch++"``.
        method: as above.
        seed: of the random vectors, which come of a generator of their own.

    Raises:
        ValueError: an argument that is not allowed.
        FloatingPointError: a product that is not finite.
    """
    Choice(("hutchinson", "hutch++")).check("trace: method", method)
    Range(6 if method == "hutch++" else 2, whole=True).check(f"trace: products of method {method!r}", products)
    generator, before = torch.Generator().manual_seed(seed), operator.cost.gradient_equivalents
    Q = Krylov(operator, min(products // 3, operator.space.size) if method == "hutch++" else 0)
    for _ in range(Q.capacity):
        Q.add(multiplied(operator, operator.space.random(generator, "rademacher")))
    exact = [operator.space.inner(q[None], multiplied(operator, q))[0] for q in Q.V]
    spent = Q.capacity + Q.count
    samples: list[Tensor] = []
    for _ in range(0 if Q.whole else products - spent):
        _, z = Q.orthogonal(operator.space.random(generator, "rademacher"))
        samples.append(operator.space.inner(z[None], multiplied(operator, z))[0])
    numbers = torch.stack([*exact, *samples]).double().cpu()
    rest = numbers[Q.count :]
    return Trace(
        value=(numbers[: Q.count].sum() + (rest.mean() if samples else 0)).item(),
        standard_error=rest.std().item() / math.sqrt(len(rest)) if samples else 0.0,
        products=spent + len(samples),
        gradient_equivalents=float(operator.cost.gradient_equivalents - before),
    )


def diagonal(operator: Operator, *, products: int = 100, seed: int = 0) -> Diagonal:
    """The diagonal, without bias: the mean of ``z ⊙ Az`` over random vectors z of ±1.

    The variance of entry i is ``Σ_{j≠i} Aᵢⱼ²`` over their number.  Bekas et al. 2007, Appl. Numer. Math. 57, section 2; the
    quotient there by ``z ⊙ z`` is by ones.

    Args:
        operator: a matrix known by its products.
        products: how many to spend: 2 or more.
        seed: of the random vectors, which come of a generator of their own.

    Raises:
        ValueError: an argument that is not allowed.
        FloatingPointError: a product that is not finite.
    """
    Range(2, whole=True).check("diagonal: products", products)
    generator, before = torch.Generator().manual_seed(seed), operator.cost.gradient_equivalents
    mean = torch.zeros(operator.space.held, dtype=operator.space.dtype, device=operator.space.device)
    squares = torch.zeros_like(mean)  # of deviations from the mean, summed (Welford)
    for count in range(1, products + 1):
        z = operator.space.random(generator, "rademacher")
        sample = z.mul_(multiplied(operator, z))
        away = sample - mean
        mean.add_(away, alpha=1 / count)
        squares.addcmul_(away, sample.sub_(mean))
    return Diagonal(
        values=mean,
        standard_errors=squares.div_(products * (products - 1)).sqrt_(),
        products=products,
        gradient_equivalents=float(operator.cost.gradient_equivalents - before),
    )


def multiplied(operator: Operator, v: Tensor) -> Tensor:
    """The product with a vector, checked."""
    w = operator.matvec(v)
    if not operator.space.norm(w).isfinite():
        raise FloatingPointError(f"a product with {operator!r} is not finite.")
    return w
