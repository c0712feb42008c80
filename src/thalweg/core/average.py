"""Station 5: how the update enters the parameter."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thalweg.core.station import station


@station("element")
def plain(p: Tensor, u: Tensor, h: dict[str, Any]) -> Tensor:
    """p ← p − ηu."""
    lr = h["lr"]
    return p.sub_(u * lr) if isinstance(lr, Tensor) else p.add_(u, alpha=-lr)
