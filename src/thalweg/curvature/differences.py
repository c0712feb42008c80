"""Derivatives along a vector by central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CHECK = 1e-3
"""The relative step at which an exact derivative is compared with its difference: few kinks lie so near."""


def central(
    f: Callable[[list[Tensor]], list[Tensor]], at: Sequence[Tensor], v: Sequence[Tensor], relative: float | None = None
) -> list[Tensor]:
    """``(f(p + hv) − f(p − hv)) / 2h``; p moves by ``relative`` times its norm: None is ∛ε, the best where f is smooth."""
    length, norm = inner(v, v) ** 0.5, inner(at, at) ** 0.5
    h = (relative or torch.finfo(at[0].dtype).eps ** (1 / 3)) * (norm or 1.0) / (length or 1.0)
    ahead, back = (f([(p + s * x).detach() for p, x in zip(at, v, strict=True)]) for s in (h, -h))
    return [(a - b) / (2 * h) for a, b in zip(ahead, back, strict=True)]


def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """aᵀb over all tensors."""
    return sum((x.double() * y.double()).sum().item() for x, y in zip(a, b, strict=True))


def disagree(exact: Sequence[Tensor], near: Sequence[Tensor]) -> bool:
    """Whether a derivative misses a part of what its difference shows."""
    gap = [a - b for a, b in zip(exact, near, strict=True)]
    return inner(gap, gap) > 0.2**2 * max(inner(exact, exact), inner(near, near))
