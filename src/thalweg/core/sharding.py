"""Parameters sharded over processes (DTensor, as FSDP2's fully_shard makes them): each process steps its own part.

What looks at single elements needs nothing from the others.  The global norm and the test for finite gradients are reduced
over them.  An option that looks at a whole tensor would see a part of it, and is refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def local(x: Any) -> Tensor:
    """The part of ``x`` that this process holds, sharing its memory; an ordinary tensor is its own part."""
    return x.to_local() if is_sharded(x) else x


def is_sharded(x: Any) -> bool:
    """Whether ``x`` is a DTensor, found without importing torch.distributed."""
    return type(x) not in (Tensor, torch.nn.Parameter) and hasattr(x, "to_local")


def whole(x: Any) -> Tensor:
    """A reduced number as every process sees it."""
    return x.full_tensor() if is_sharded(x) else x


def largest_over(where: tuple[Any, ...] | None, x: Tensor) -> Tensor:
    """The largest of the numbers ``x`` that the processes of a placement hold, on each of them."""
    if where is None:
        return x
    from torch.distributed.tensor import DTensor, Partial

    mesh, _ = where
    return DTensor.from_local(x, mesh, [Partial("max")] * mesh.ndim).full_tensor()


def placement(x: Any) -> tuple[Any, ...] | None:
    """How a DTensor is spread: its mesh and placements; None for an ordinary tensor."""
    return (x.device_mesh, x.placements) if is_sharded(x) else None
