"""The vectors an operator acts on: all parameters in a row, on one process or shared out over several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.core.sharding import local, over_processes, placement, spread


def joined(tensors: Iterable[Tensor]) -> Tensor:
    """All elements in one vector (n,)."""
    return torch.cat([t.reshape(-1) for t in tensors])


def split(v: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """A vector (n,) in tensors of the given shapes: views of it."""
    return [part.view(t.shape) for part, t in zip(torch.split(v, [t.numel() for t in like]), like, strict=True)]


class Space:
    """ℝⁿ with its inner product.  Of sharded parameters each process holds the elements it holds of the parameters.

    Args:
        params: tensors whose elements, flattened and joined, are the coordinates.  Sharded ones must be spread alike.
        group: the processes whose losses are averaged, under DistributedDataParallel; None: one process, or the sharded
            parameters' own.

    Attributes:
        size: n, over all processes.
        held: how many of the n this process holds.
        dtype, device: of the vectors; float32 where parameters are shorter.
    """

    def __init__(self, params: Iterable[Tensor], group: Any = None) -> None:
        self.like, self.group = list(params), group
        places = [placement(p) for p in self.like]
        self.where = places[0] if places else None
        if any(place != self.where for place in places):
            raise ValueError(
                "params are not spread over the processes alike; curvature needs one mesh and one placement."
            )
        self.size = sum(p.numel() for p in self.like)
        self.held = sum(local(p).numel() for p in self.like)
        self.device = local(self.like[0]).device
        self.dtype = torch.promote_types(max((p.dtype for p in self.like), key=lambda d: d.itemsize), torch.float32)

    @classmethod
    def flat(cls, size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Space:
        """ℝⁿ of plain vectors, for an operator that is not of a network's parameters."""
        return cls([torch.empty(size, dtype=dtype, device=device)])

    def inner(self, rows: Tensor, v: Tensor) -> Tensor:
        """The inner products of rows (m, held) with a vector (held,): (m,), the same on every process."""
        return over_processes("sum", self.where, rows @ v)

    def norm(self, v: Tensor) -> Tensor:
        """‖v‖, 0-D."""
        return self.inner(v[None], v)[0].sqrt()

    def random(self, generator: torch.Generator, kind: str = "normal") -> Tensor:
        """A vector (held,) of independent numbers: ``"normal"``, or ``"rademacher"``, ±1.

        The same numbers however many processes share them.
        """
        return joined(self._held(self._drawn(p, generator, kind), p) for p in self.like)

    def _drawn(self, p: Tensor, generator: torch.Generator, kind: str) -> Tensor:
        shape, device = tuple(p.shape), generator.device
        if kind == "normal":
            return torch.randn(shape, generator=generator, dtype=self.dtype, device=device)
        bits = torch.randint(2, shape, generator=generator, device=device)
        return bits.to(self.dtype) * 2 - 1

    def _held(self, x: Tensor, p: Tensor) -> Tensor:
        return local(spread(x.to(self.device), p)).to(self.device)

    def gathered(self, v: Tensor) -> list[Tensor]:
        """A vector (held,) as whole tensors in the shapes of the parameters, on every process."""
        parts = split(v, [local(p) for p in self.like])
        if self.where is None:
            return parts
        from torch.distributed.tensor import DTensor

        mesh, cuts = self.where
        pairs = zip(parts, self.like, strict=True)
        return [
            DTensor.from_local(x, mesh, cuts, run_check=False, shape=p.shape, stride=p.stride()).full_tensor()
            for x, p in pairs
        ]

    def mean(self, tensors: Sequence[Tensor]) -> Tensor:
        """Whole tensors, one set a process, averaged over the processes: the vector (held,)."""
        if self.where is None:
            return self._over_group(joined(t.to(self.dtype) for t in tensors))
        from torch.distributed.tensor import DTensor, Partial

        mesh, _ = self.where
        averaged = [Partial("avg")] * mesh.ndim
        pairs = zip(tensors, self.like, strict=True)
        return joined(
            local(spread(DTensor.from_local(t.to(self.dtype), mesh, averaged, run_check=False), p)) for t, p in pairs
        )

    def mean_number(self, x: Tensor) -> Tensor:
        """A number of each process, averaged over the processes."""
        if self.where is None:
            return self._over_group(x.clone())
        from torch.distributed.tensor import DTensor, Partial

        mesh, _ = self.where
        return DTensor.from_local(x, mesh, [Partial("avg")] * mesh.ndim, run_check=False).full_tensor()

    def _over_group(self, x: Tensor) -> Tensor:
        if self.group is None:
            return x
        import torch.distributed as dist

        dist.all_reduce(x, group=self.group)
        return x.div_(dist.get_world_size(self.group))
