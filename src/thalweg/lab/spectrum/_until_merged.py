"""Stand-ins for what `thalweg.curvature` will have, with its names and signatures; this file goes when they are there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

import thalweg
from thalweg.curvature import Eigenpairs, Operator, eigenpairs, hessian
from thalweg.curvature.krylov import Krylov
from thalweg.curvature.operators import LossOperator, Params
from thalweg.curvature.space import Space

SECOND_MOMENT = {thalweg.RMSprop: "square_avg", thalweg.Adam: "exp_avg_sq", thalweg.AdamW: "exp_avg_sq"}


def stability_threshold(optimizer: torch.optim.Optimizer) -> list[float]:
    """The sharpness of the preconditioned Hessian at which each group's steps stop to contract."""
    return [_threshold(optimizer, group) for group in optimizer.param_groups]


def _threshold(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> float:
    lr = float(group["lr"])
    if isinstance(optimizer, thalweg.Adam | thalweg.AdamW):
        beta = group["betas"][0]
        return (2 + 2 * beta) / ((1 - beta) * lr)
    if isinstance(optimizer, thalweg.SGD):
        beta = group["momentum"]
        return (2 + 2 * beta) / (lr * (1 + 2 * beta if group["nesterov"] else 1))
    if isinstance(optimizer, thalweg.RMSprop):
        return 2 / lr
    raise ValueError(f"{type(optimizer).__name__} has no stability threshold.")


class Preconditioned(Operator):
    """P^-½ A P^-½, P diagonal."""

    def __init__(self, operator: Operator, scale: Tensor) -> None:
        self.operator, self.scale = operator, scale
        self.space, self.cost = operator.space, operator.cost

    def product(self, v: Tensor) -> Tensor:
        """The product with a vector."""
        return self.scale * self.operator.matvec(self.scale * v)


def preconditioned(operator: LossOperator, optimizer: torch.optim.Optimizer) -> Operator:
    """P^-½ A P^-½ with P = √v̂ + ε; for SGD, the operator itself."""
    if isinstance(optimizer, thalweg.SGD):
        return operator
    name = next((key for kind, key in SECOND_MOMENT.items() if isinstance(optimizer, kind)), None)
    if name is None:
        raise ValueError(f"the preconditioner of {type(optimizer).__name__} is unknown.")
    group = optimizer.param_groups[0]
    scale: list[Tensor] = []
    for p in operator.source.params:
        state = optimizer.state[p]
        if name not in state:
            raise ValueError("the optimizer has taken no step yet, so its preconditioner is unknown.")
        correction = 1 - group["betas"][1] ** float(state["step"]) if "betas" in group else 1.0
        scale.append((state[name].detach() / correction).sqrt().add(group["eps"]).rsqrt().flatten())
    return Preconditioned(operator, torch.cat(scale))


@dataclass(frozen=True)
class SharpnessRatio:
    """Sharpness over threshold."""

    ratio: float
    residual: float
    sharpness: float
    threshold: float
    pair: Eigenpairs = field(repr=False)


def sharpness_ratio(
    operator: LossOperator, optimizer: torch.optim.Optimizer, *, tol: float = 1e-2, start: SharpnessRatio | None = None
) -> SharpnessRatio:
    """λ1(P⁻¹A) over the lowest threshold."""
    threshold = min(stability_threshold(optimizer))
    pair = eigenpairs(preconditioned(operator, optimizer), 1, tol=tol, start=start and start.pair)
    value, residual = pair.eigenvalues[0].item(), pair.residuals[0].item()
    return SharpnessRatio(value / threshold, residual / threshold, value, threshold, pair)


@dataclass(frozen=True)
class Density:
    """A spectral density."""

    grid: Tensor
    values: Tensor
    nodes: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)
    trace: float
    trace_error: float


def density(operator: Operator, *, vectors: int = 10, steps: int = 60, seed: int = 0) -> Density:
    """Stochastic Lanczos quadrature."""
    generator = torch.Generator().manual_seed(seed)
    nodes, weights = list[Tensor](), list[Tensor]()
    for _ in range(vectors):
        krylov = Krylov(operator, min(steps, operator.space.size) + 1)
        krylov.add(operator.space.random(generator, "rademacher"))
        while krylov.products < steps and krylov.multiplied < krylov.count:
            krylov.step()
        theta, _, vs = krylov.ritz()
        nodes.append(theta)
        weights.append(vs[0].square() / vectors)
    x, w = torch.cat(nodes), torch.cat(weights)
    low, high = x.min().item(), x.max().item()
    width = 0.01 * (high - low)
    grid = torch.linspace(low - 5 * width, high + 5 * width, 800, dtype=x.dtype)
    values = torch.exp(-0.5 * ((grid[:, None] - x) / width) ** 2) @ w / (width * (2 * torch.pi) ** 0.5)
    traces = operator.space.size * vectors * torch.stack([t @ share for t, share in zip(nodes, weights, strict=True)])
    error = traces.std().item() / vectors**0.5 if vectors > 1 else math.nan
    return Density(grid, values, x, w, traces.mean().item(), error)


class Restricted(Operator):
    """The diagonal block of some coordinates."""

    def __init__(self, operator: Operator, place: slice) -> None:
        self.operator, self.place, self.cost = operator, place, operator.cost
        self.space = Space.flat(place.stop - place.start, operator.space.dtype)

    def product(self, v: Tensor) -> Tensor:
        """The product with a vector."""
        whole = v.new_zeros(self.operator.space.held)
        whole[self.place] = v
        return self.operator.matvec(whole)[self.place]


@dataclass(frozen=True)
class LayerSpectra:
    """The spectra of blocks."""

    blocks: dict[str, Eigenpairs]


def layer_spectra(operator: LossOperator, k: int = 1) -> LayerSpectra:
    """The extreme eigenvalues of each module's own block, by its name."""
    places: dict[str, slice] = {}
    start = 0
    for name, p in zip(operator.source.names, operator.source.params, strict=True):
        module = name.rpartition(".")[0] or name
        places[module] = slice(places.get(module, slice(start, start)).start, start + p.numel())
        start += p.numel()
    blocks = {
        name: eigenpairs(Restricted(operator, place), min(k, place.stop - place.start))
        for name, place in places.items()
    }
    return LayerSpectra(blocks)


@dataclass(frozen=True)
class BatchSharpness:
    """A mean over mini-batches."""

    mean: float


Batch = TypeVar("Batch")


def batch_sharpness(loss_fn: Callable[[Batch], Tensor], batches: Iterable[Batch], params: Params) -> BatchSharpness:
    """E[gᵀH_B g / gᵀg] over mini-batches."""
    quotients: list[float] = []
    for batch in batches:
        H = hessian(lambda batch=batch: loss_fn(batch), params)
        g = H.gradient
        quotients.append((g @ H.matvec(g) / (g @ g)).item())
    return BatchSharpness(sum(quotients) / len(quotients))
