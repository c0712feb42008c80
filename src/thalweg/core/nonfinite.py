"""What is known of all gradients before any bucket runs: their norm, and whether every one is finite."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from thalweg.core.sharding import local, over_processes, placement, whole
from thalweg.core.tensorlist import foreach


def global_norm(grads: list[Tensor], order: float = 2.0) -> Tensor:
    """The norm over all elements of all gradients, accumulated in float32 or wider: 0-D, on the first one's device."""
    alike: dict[Any, list[Tensor]] = {}
    for g in grads:
        if g.numel():
            alike.setdefault((g.dtype, placement(g)), []).append(g)
    norms: list[Tensor] = [
        norm
        for (dtype, _), members in alike.items()
        for norm in foreach("norm")(members, order, dtype=torch.promote_types(dtype, torch.float32))
    ]
    device = grads[0].device
    if not norms:
        return torch.zeros((), device=device)
    norms = [whole(n).to(device, non_blocking=True) for n in norms]
    return cast(Tensor, torch.stack(norms).sort().values.norm(order))  # the same bits in any order of the parameters


def is_checkable(g: Tensor | None) -> bool:
    """Whether there is a gradient of a kind that a step takes; any other is refused elsewhere."""
    return g is not None and g.layout == torch.strided and g.is_floating_point()


def all_finite(grads: list[Tensor]) -> Tensor:
    """Whether no element is NaN or infinite: a 0-D bool that stays on the device."""
    meshes: dict[Any, list[Tensor]] = {}
    for g in grads:
        meshes.setdefault(placement(g), []).append(local(g))
    largest = [over_processes("max", where, global_norm(members, torch.inf)) for where, members in meshes.items()]
    return torch.isfinite(torch.stack([x.to(largest[0].device, non_blocking=True) for x in largest])).all()
