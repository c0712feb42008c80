"""Sharpness against what an optimizer bears: its ratio to the stability threshold, and its average over mini-batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from thalweg.curvature.followed import followed
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.lanczos import Eigenpairs, eigenpairs
from thalweg.curvature.operators import Operator, Params
from thalweg.curvature.preconditioner import Preconditioned, per_parameter, preconditioned
from thalweg.curvature.stability import least, of_shapes

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class SharpnessRatio:
    """How far an optimizer is from the edge of its stability.

    Attributes:
        ratio: sharpness over threshold: below 1 stable, above 1 steps grow along some direction.
        residual: of ``ratio``: an eigenvalue lies within this distance.
        sharpness: curvature P⁻¹A along that direction: λ1 if one threshold is everybody's.
        threshold: sharpness/ratio.
        thresholds: of each parameter group.
        products: how many were used.
        gradient_equivalents: what they cost, in gradients.
        pairs: the k eigenvalues, in units of the smallest threshold, and vectors, to start the next probe near.
    """

    ratio: float
    residual: float
    sharpness: float
    threshold: float
    thresholds: tuple[float, ...]
    products: int
    gradient_equivalents: float
    pairs: Eigenpairs = field(repr=False)


def sharpness_ratio(
    operator: Operator,
    optimizer: torch.optim.Optimizer,
    k: int = 1,
    *,
    tol: float = 1e-2,
    max_products: int | None = None,
    start: SharpnessRatio | Eigenpairs | Tensor | None = None,
    seed: int = 0,
) -> SharpnessRatio:
    """λ1(P⁻¹A) over the stability threshold: ``λ1(S^-½ P^-½ A P^-½ S^-½)``, S the threshold of each parameter.

    Full-batch training of a network raises it to about 1 and hovers there, the edge of stability (arXiv:2103.00065; adaptive
    rules: 2207.14484).

    Args:
        operator: A: the Hessian of the full-batch loss, or its Gauss–Newton matrix.
        optimizer: as for ``preconditioned``, after a step.
        k: how many eigenvalues ``pairs`` has; the ratio is the largest's.
        tol: relative residual at which it stops, as in ``eigenpairs``; so are ``max_products`` and ``seed``.
        start: the last result, its pairs, or a vector (n,), to start near.

    Raises:
        ValueError: as ``preconditioned`` and ``eigenpairs``.
    """
    metric = preconditioned(operator, optimizer)
    groups = [(one, of_shapes(one)) for one in followed(optimizer)]
    bears = {p: thresholds[p.ndim > 1] for one, thresholds in groups for p in one.params}
    unit = min(bears[p] for p in operator.space.like)
    relative = per_parameter(operator, [1.0 if bears[p] == unit else bears[p] / unit for p in operator.space.like])
    near = start.pairs if isinstance(start, SharpnessRatio) else start
    scaled = Preconditioned(operator, metric.scale / relative.sqrt())
    pairs = eigenpairs(scaled, k, tol=tol, max_products=max_products, start=near, seed=seed)
    value, residual, v = pairs.eigenvalues[0], pairs.residuals[0], pairs.eigenvectors[:, 0]
    along = operator.space.inner((v / relative)[None], v).item()
    return SharpnessRatio(
        ratio=(value / unit).item(),
        residual=(residual / unit).item(),
        sharpness=value.item() / along,
        threshold=unit / along,
        thresholds=tuple(least(thresholds) for _, thresholds in groups),
        products=pairs.products,
        gradient_equivalents=pairs.gradient_equivalents,
        pairs=pairs,
    )


@dataclass(frozen=True)
class BatchSharpness:
    """Curvature along the steps of mini-batch training.

    Attributes:
        mean: of gᵀH_B g/gᵀg over the mini-batches.
        standard_error: of the mean; NaN for one batch.
        quotients: of each batch.
        gradient_equivalents: what it cost, in gradients.
    """

    mean: float
    standard_error: float
    quotients: tuple[float, ...]
    gradient_equivalents: float


def batch_sharpness(loss_fn: Callable[[Batch], Tensor], batches: Iterable[Batch], params: Params) -> BatchSharpness:
    """``E[gᵀH_B g / gᵀg]``, g and H_B gradient and Hessian of a mini-batch B.  arXiv:2412.20553.

    What mini-batch SGD raises to its threshold while λ1 of the full batch stays below: 2/η; with momentum β 2(1−β)/η for small
    batches and 2(1+β)/η for large ones (arXiv:2604.14108).  A batch costs a gradient and a product.

    Args:
        loss_fn: the scalar loss of a batch, with its graph: it calls no ``backward``.
        batches: of the size that is trained with; some tens make the standard error small.
        params: a module, tensors or named tensors.

    Raises:
        ValueError: no batches; a batch whose gradient is zero or not finite; a loss that is no scalar with a graph.
    """
    params = params if isinstance(params, nn.Module) else cast(Params, list(params))
    quotients, cost = list[float](), 0.0
    for i, batch in enumerate(batches):
        H = Hessian(lambda batch=batch: loss_fn(batch), params)
        g, space = H.gradient, H.space
        length = space.inner(g[None], g).item()
        if not 0 < length < math.inf:
            raise ValueError(
                f"batch_sharpness: batch {i} has a gradient of squared norm {length}, along which there is no"
                " curvature; leave it out."
            )
        quotients.append(space.inner(g[None], H.matvec(g)).item() / length)
        cost += float(H.cost.gradient_equivalents)
    if not quotients:
        raise ValueError("batch_sharpness: batches is empty; pass at least one, better some tens.")
    values = torch.tensor(quotients, dtype=torch.float64)
    spread = values.std().item() if len(values) > 1 else math.nan
    return BatchSharpness(values.mean().item(), spread / len(values) ** 0.5, tuple(quotients), cost)
