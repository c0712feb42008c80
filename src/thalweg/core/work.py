"""What one call of the pipeline works on: parameters whole, by rows or in pieces, in lists, or joined to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from thalweg.core.buckets import Bucket
from thalweg.core.tensorlist import TensorList, foreach

Loaded: TypeAlias = tuple[Any, Any, dict[str, Any]]
"""Parameter, gradient and state as the pipeline takes them: tensors, or lists of them."""


@dataclass(frozen=True)
class Part:
    """One parameter in its own shape, by rows, or a ``span`` of its elements as they lie in memory."""

    index: int
    form: str = "whole"
    span: tuple[int, int] | None = None

    def of(self, x: Tensor, like: Tensor, order: tuple[int, ...]) -> Tensor:
        """Rows or span of ``x``, which is laid out like the parameter ``like``; sharing memory unless ``x`` is not."""
        if not (x.is_contiguous() and like.is_contiguous()):
            if x.stride() != like.stride():  # a gradient may come in another layout
                x = torch.empty_like(like, dtype=x.dtype).copy_(x)
            x = x.permute(order)
        shape = (x.shape[0], -1) if self.form == "rows" and x.ndim > 1 else (-1,)
        # Unlike view(), not recorded as a view: torch.compile would guard on the shape of the base.
        x = torch.ops.aten._unsafe_view.default(x, shape)
        return x[self.span[0] : self.span[1]] if self.span else x


class Work:
    """A part of one parameter, or a list of parts, updated where they lie."""

    def __init__(self, bucket: Bucket, parts: list[Part]) -> None:
        self.bucket, self.parts = bucket, parts
        self._p = self._take(bucket.local)
        self._state = {name: self._take(column) for name, column in bucket.state.items()}
        self.lane = self._lane() if bucket.pipeline.stochastic else None

    def load(self, grads: list[Tensor]) -> Loaded:
        """Parameter, gradient and state as the pipeline takes them."""
        return self._p, self._take(grads), self._state

    def store(self) -> None:
        """What is left to do when the pipeline is through: nothing."""

    def _take(self, column: list[Tensor]) -> Any:
        params, orders = self.bucket.local, self.bucket.orders
        if self.parts[0].form == "whole":  # the parts of a work have one form
            views = [column[part.index] for part in self.parts]
        else:
            views = [part.of(column[part.index], params[part.index], orders[part.index]) for part in self.parts]
        return views[0] if len(views) == 1 else TensorList(views)

    def _lane(self) -> Any:
        starts = [self.bucket.lanes[part.index] + (part.span[0] if part.span else 0) for part in self.parts]
        lanes = [torch.tensor(start, device=self.bucket.local[0].device) for start in starts]
        return lanes[0] if len(lanes) == 1 else TensorList(lanes)


class Joined:
    """Small parameters copied into one buffer, updated there, and copied back: three copies beat ten passes over each."""

    lane = None

    def __init__(self, bucket: Bucket, indices: list[int]) -> None:
        def own(column: list[Tensor]) -> list[Tensor]:
            return [column[i] for i in indices]

        self._indices = indices
        self._p = _Buffer(own(bucket.local))
        self._state = {name: _Buffer(own(column)) for name, column in bucket.state.items()}
        self._g: _Buffer | None = None

    def load(self, grads: list[Tensor]) -> Loaded:
        """Parameter, gradient and state as the pipeline takes them."""
        own = [grads[i] for i in self._indices]
        if self._g is None or self._g.joined.dtype != own[0].dtype:
            self._g = _Buffer(own)
        return self._p.fill(), self._g.fill(own), {name: s.fill() for name, s in self._state.items()}

    def store(self) -> None:
        """Copy parameters and state back to where they came from."""
        for buffer in (self._p, *self._state.values()):
            buffer.spill()


class _Buffer:
    """One tensor, and a view of it in the shape of each of the tensors it stands for."""

    def __init__(self, tensors: list[Tensor]) -> None:
        sizes = [x.numel() for x in tensors]
        self._tensors = tensors
        self.joined = torch.empty(sum(sizes), dtype=tensors[0].dtype, device=tensors[0].device)
        self._views = [v.view(x.shape) for v, x in zip(torch.split(self.joined, sizes), tensors, strict=True)]

    def fill(self, tensors: list[Tensor] | None = None) -> Tensor:
        foreach("copy_")(self._views, tensors or self._tensors)
        return self.joined

    def spill(self) -> None:
        foreach("copy_")(self._tensors, self._views)
