"""The operations that stations and rules are made of, each written once, for one tensor.

``rows``: everything behind the first dimension, one output unit; a vector is one row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from thalweg.core.rule import Scalar


def row_dims(x: Tensor) -> tuple[int, ...]:
    """The dimensions of one row: 1.. of a matrix or kernel (one output unit), all of a vector."""
    return tuple(range(1, x.ndim)) or tuple(range(x.ndim))


def row_size(x: Tensor) -> int:
    """Elements in one row."""
    return x.numel() // x.shape[0] if x.ndim > 1 else x.numel()


def row_mean(x: Tensor) -> Tensor:
    """The mean of each row, with its dimensions kept."""
    return x.mean(dim=row_dims(x), keepdim=True)


def centralized(x: Tensor, strength: Scalar) -> Tensor:
    """x − s · rowmean(x)."""
    return x - strength * row_mean(x)


def normalized(x: Tensor, dims: tuple[int, ...], strength: Scalar) -> Tensor:
    """(1−s)x + s · x/(σ + 1e-8), σ the standard deviation over ``dims``."""
    sigma = x.std(dim=dims, keepdim=True)
    return x * ((1 - strength) + strength / (sigma + 1e-8))


def as_published(x: Tensor, centralization: Scalar, normalization: Scalar, *, channels: bool) -> Tensor:
    """Centralization and normalization as the public code of SAVEUS and DOPE has them.

    A vector is one row for both, and normalization is full unless it is zero.  Rows of one element become NaN.
    """
    x = centralized(x, centralization)
    if channels and x.ndim > 1:
        sigma = x.std(dim=row_dims(x), keepdim=True) if row_size(x) > 1 else torch.nan
    elif x.numel() > 2:
        sigma = x.std()
    else:
        return x
    y = x / (sigma + 1e-8)
    if isinstance(normalization, Tensor):
        return torch.where(normalization > 0, y, x)
    return y if normalization > 0 else x


def rms(x: Tensor) -> Tensor:
    """√mean(x²) over the whole tensor."""
    return (x * x).mean().sqrt()


def adaptive_epsilon(x: Tensor, eps: Scalar, eps2: Scalar, floor: Scalar | None) -> Scalar:
    """ε; with a floor, min(ε₂ RMS(x), ε) but not below it: ε shrinks with the gradient."""
    if floor is None:
        return eps
    return torch.clamp(torch.clamp(rms(x) * eps2, max=eps), min=floor)


def root(x: Tensor, power: float) -> Tensor:
    """x^power; quarters by square roots, of which each costs a tenth of a power."""
    if power == 0.75:
        return x.sqrt() * x.sqrt().sqrt()
    return x.sqrt() if power == 0.5 else x if power == 1 else x**power


def rms_clipped(x: Tensor, bound: Scalar = 1.0) -> Tensor:
    """R(x) = x · c / max(c, RMS(x)).  Adafactor's update clipping (arXiv:1804.04235, sect. 6)."""
    return x * (bound / rms(x)).clamp(max=1.0)


def norm_clipped(x: Tensor, bound: Scalar, eps: float = 0.0) -> Tensor:
    """x · min(1, c / (‖x‖ + ε))."""
    return x * (bound / ((x * x).sum().sqrt() + eps)).clamp(max=1.0)


def agreement(u: Tensor, g: Tensor, floor: float = 1e-3) -> Tensor:
    """k / max(mean(k), floor), k = 1[u·g > 0]: where update and gradient agree in sign (arXiv:2411.16085, Alg. 1)."""
    k = (u * g > 0).to(u.dtype)
    return k / k.mean().clamp(min=floor)


def moved(p: Tensor, u: Tensor, lr: Scalar) -> Tensor:
    """p ← p − ηu, in place."""
    return p.sub_(u * lr) if isinstance(lr, Tensor) else p.add_(u, alpha=-lr)


def variance_reduced(g: Tensor, difference: Tensor, gamma: Scalar, beta: Scalar) -> Tensor:
    """g + γβ/(1−β) · Δ: MARS's correction by the change Δ of the gradient since the last step (arXiv:2411.10438, eq. 6)."""
    return g + difference * (gamma * beta / (1 - beta))


def amplified(t: Scalar, power: Scalar, cap: Scalar) -> Scalar:
    """min(t^λ, cap): the weight of the momentum, which grows with the steps."""
    return at_most(t**power, cap)


def at_least(x: Scalar, low: Scalar) -> Scalar:
    """max(x, low) of two numbers."""
    return torch.clamp(x, min=low) if isinstance(x, Tensor) else max(x, low)


def at_most(x: Scalar, high: Scalar) -> Scalar:
    """min(x, high) of two numbers."""
    return torch.clamp(x, max=high) if isinstance(x, Tensor) else min(x, high)
