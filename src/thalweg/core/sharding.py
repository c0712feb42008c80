"""Parameters sharded over processes (DTensor, as FSDP2's fully_shard makes them): each process steps its own part.

What looks at single elements needs nothing from the others, and runs on the parts as on any tensors.  The global norm and
the test for finite gradients are reduced over the processes.  What looks at a whole tensor runs on the DTensor itself, whose
means and norms are those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, TypeGuard, cast

import torch
from torch import Tensor

Reach: TypeAlias = Literal["element", "tensor", "matrix"]
"""How far one output element looks: at itself alone, at numbers of its whole tensor, or at every element of it, by products."""


def farthest(reaches: Iterable[Reach]) -> Reach:
    """The one that covers all of them."""
    return max(reaches, key=("element", "tensor", "matrix").index)


def local(x: Any) -> Tensor:
    """The part of ``x`` that this process holds, sharing its memory; an ordinary tensor is its own part."""
    return x.to_local() if is_sharded(x) else x


def is_sharded(x: Any) -> TypeGuard[Any]:
    """Whether ``x`` is a DTensor, found without importing torch.distributed."""
    return type(x) not in (Tensor, torch.nn.Parameter) and hasattr(x, "to_local")


def whole(x: Any) -> Tensor:
    """All of ``x`` on every process."""
    return x.full_tensor() if is_sharded(x) else x


def over_processes(how: Literal["max", "sum"], where: tuple[Any, ...] | None, x: Tensor) -> Tensor:
    """The largest, or the sum, of the numbers ``x`` of the parts that a tensor is cut into, on each process."""
    if where is None:
        return x
    from torch.distributed.tensor import DTensor, Partial, Replicate

    mesh, placements = where
    return DTensor.from_local(
        x, mesh, [Partial(how) if cut.is_shard() else Replicate() for cut in placements]
    ).full_tensor()


def apply(reach: Reach, function: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """``function(x, …)``, whose result is spread as ``x`` is.

    On this process's parts where the function looks at single elements; on DTensors, which ask the other processes for
    means and norms, where it looks at whole tensors.
    """
    if not is_sharded(x):
        return function(x, *args, **kwargs)
    if reach != "element" and any(cut.is_shard() and x.shape[cut.dim] == 1 for cut in x.placements):
        return _on_every_process(function, x, *args, **kwargs)
    if reach != "element":
        result = function(x, *args, **kwargs)
        pair = cast("tuple[Any, ...]", result)
        return tuple(spread(r, x) for r in pair) if isinstance(result, tuple) else spread(result, x)
    from torch.distributed.tensor import DTensor

    part = function(local(x), *map(local, args), **{name: local(y) for name, y in kwargs.items()})
    mesh, placements = x.device_mesh, x.placements
    return DTensor.from_local(part, mesh, placements, run_check=False, shape=x.shape, stride=x.stride())


def _on_every_process(function: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """The same for a dimension of 1 that is shared out, of whose placement DTensor's own operations lose track."""
    wholes = {name: whole(y) for name, y in kwargs.items()}
    whole_x = whole(x)
    result = function(whole_x, *map(whole, args), **wholes)
    for y, full in ((x, whole_x), *((y, wholes[name]) for name, y in kwargs.items() if is_sharded(y))):
        local(y).copy_(local(spread(full, y)))  # what the function did in place
    if isinstance(result, tuple):
        return tuple(spread(r, x) for r in cast("tuple[Any, ...]", result))
    return x if result is whole_x else spread(result, x)


def spread(x: Any, like: Any) -> Any:
    """``x``, sharded or the same on every process, spread over the processes as ``like`` is."""
    if not is_sharded(like):
        return whole(x)
    where = (like.device_mesh, like.placements)
    if is_sharded(x):
        return x if placement(x) == where else x.redistribute(*where)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x, *where, src_data_rank=None)  # from each process's own copy


def first_element(x: Any) -> int:
    """The number, within all of ``x``, of the first element that this process holds.

    Exact where dimension 0 is cut into runs of rows, as FSDP2 does; any other cut gets a number of its own per process.
    """
    if not is_sharded(x):
        return 0
    start, rows, other = 0, x.shape[0] if x.ndim else 1, 0
    for dim, cut in enumerate(x.placements):
        processes, rank = x.device_mesh.size(dim), x.device_mesh.get_local_rank(dim)
        if cut.is_shard(0):
            chunk = -(-rows // processes)
            before = min(rank * chunk, rows)
            start, rows = start + before, min(chunk, rows - before)
        elif not cut.is_replicate():
            other = other * processes + rank
    return start * (x.numel() // max(x.shape[0], 1) if x.ndim else 1) + other * x.to_local().numel()


def placement(x: Any) -> tuple[Any, ...] | None:
    """How a DTensor is spread: its mesh and placements; None for an ordinary tensor."""
    return (x.device_mesh, x.placements) if is_sharded(x) else None
