"""What is known of all gradients before any bucket runs: their norm, and whether every one is finite."""

from __future__ import annotations

import torch
from torch import Tensor


def global_norm(grads: list[Tensor], order: float = 2.0) -> Tensor:
    """The norm over all elements of all gradients, accumulated in float32 or wider: 0-D, on the first one's device."""
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for g in grads:
        if g.numel():
            by_dtype.setdefault(g.dtype, []).append(g)
    norms = [
        norm
        for dtype, members in by_dtype.items()
        for norm in torch._foreach_norm(members, order, dtype=torch.promote_types(dtype, torch.float32))
    ]
    device = grads[0].device
    if not norms:
        return torch.zeros((), device=device)
    return torch.linalg.vector_norm(torch.stack([n.to(device, non_blocking=True) for n in norms]), order)


def all_finite(grads: list[Tensor]) -> Tensor:
    """Whether no element is NaN or infinite: a 0-D bool that stays on the device."""
    return torch.isfinite(global_norm(grads, torch.inf))
