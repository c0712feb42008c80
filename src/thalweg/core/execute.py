"""How a bucket runs: each tensor by itself, foreach in bounded chunks, or one compiled kernel.

All three hand the same pipeline the same numbers; they differ in how parameters are cut and joined before it:

- ``each``      whole tensors in their own shape: the plainest form, for any memory layout.
- ``foreach``   where elements do not look at each other, tensors are cut into pieces whose temporaries stay in cache, and
                small ones are joined; where they do, lists of whole tensors of bounded size.
- ``compiled``  small tensors joined, every other by itself, through one kernel of dynamic length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thalweg.core import strategy
from thalweg.core.buckets import Bucket
from thalweg.core.compile import Compiled
from thalweg.core.tensorlist import TensorList, foreach

PIECE = {"cpu": 1 << 18}  # elements of a chunk: 1 MiB of float32 and its temporaries stay in a core's cache
PIECE_ELSEWHERE = 1 << 24  # an accelerator wants long kernels; this still bounds the temporaries
SMALL = 1 << 14  # below this many elements, joining tensors costs less than a pass over each


@dataclass(frozen=True)
class Part:
    """One parameter in its own shape, by rows, or a ``span`` of its elements as they lie in memory."""

    index: int
    form: str = "whole"
    span: tuple[int, int] | None = None

    def of(self, x: Tensor, like: Tensor, order: tuple[int, ...]) -> Tensor:
        """This part of ``x``, which is laid out like the parameter ``like``; sharing memory unless ``x`` is not."""
        if self.form == "whole":
            return x
        if x.stride() != like.stride():  # a gradient may come in another layout
            x = torch.empty_like(like, dtype=x.dtype).copy_(x)
        x = x if x.ndim < 2 else x.permute(order)
        shape = (x.shape[0], -1) if self.form == "rows" and x.ndim > 1 else (-1,)
        # Unlike view(), not recorded as a view: torch.compile would guard on the shape of the base.
        x = torch.ops.aten._unsafe_view.default(x, shape)
        return x[self.span[0] : self.span[1]] if self.span else x


class Work:
    """What one call of the pipeline works on: a part, a list of parts, or small tensors joined to one."""

    def __init__(self, bucket: Bucket, parts: Iterable[Part], *, joined: bool = False) -> None:
        self.bucket, self.parts, self.joined = bucket, list(parts), joined
        self.p = self._take(bucket.params)
        self.state = {name: self._take(column) for name, column in bucket.state.items()}
        self.lane = self._lane() if bucket.pipeline.stochastic else None

    def load(self, grads: list[Tensor]) -> tuple[Any, Any, dict[str, Any]]:
        """Parameter, gradient and state as the pipeline takes them."""
        g = self._take(grads)
        if not self.joined:
            return self.p, g, self.state
        return torch.cat(self.p), torch.cat(g), {name: torch.cat(s) for name, s in self.state.items()}

    def operands(self, p: Tensor, g: Tensor, state: dict[str, Tensor]) -> list[Tensor]:
        """The same, and the lane, as a kernel takes them."""
        return [p, g, *state.values(), *([] if self.lane is None else [self.lane])]

    def store(self, p: Tensor, state: dict[str, Tensor]) -> None:
        """Write joined tensors back to where they came from; everything else was updated in place."""
        if self.joined:
            sizes = [x.numel() for x in self.p]
            for own, value in [(self.p, p), *((self.state[name], s) for name, s in state.items())]:
                foreach("copy_")(own, torch.split(value, sizes))

    def _take(self, column: list[Tensor]) -> Any:
        params, orders = self.bucket.params, self.bucket.orders
        views = [part.of(column[part.index], params[part.index], orders[part.index]) for part in self.parts]
        return views if self.joined else views[0] if len(views) == 1 else TensorList(views)

    def _lane(self) -> Any:
        starts = [self.bucket.lanes[part.index] + (part.span[0] if part.span else 0) for part in self.parts]
        lanes = [torch.tensor(start, device=self.bucket.params[0].device) for start in starts]
        return lanes[0] if len(lanes) == 1 else TensorList(lanes)


def run(bucket: Bucket, grads: list[Tensor], h: dict[str, Any]) -> None:
    """One step of a bucket; ``grads`` along its parameters, ``h`` the numbers of the step."""
    if not bucket.work:
        _arrange(bucket, grads, h)
    if bucket.compiled is not None:
        bucket.compiled.begin(h)
    for work in bucket.work:
        p, g, state = work.load(grads)
        if bucket.compiled is not None and _compiles(p):
            bucket.compiled.step(work.operands(p, g, state))
        else:
            bucket.pipeline.step(p, g, state, h["step"], h, work.lane)
        work.store(p, state)


def _arrange(bucket: Bucket, grads: list[Tensor], h: dict[str, Any]) -> None:
    """Cut the bucket up, and make every kernel it needs before anything is changed."""
    bucket.work = list(_ARRANGE[bucket.run](bucket))
    if bucket.run != "compiled":
        return
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    bucket.compiled = Compiled(bucket.pipeline, list(bucket.state))
    bucket.compiled.begin(h)
    try:
        for work in bucket.work:
            p, g, state = work.load(grads)
            if _compiles(p):
                bucket.compiled.kernel(work.operands(p, g, state))
    except TorchDynamoException as error:
        reason = strategy.give_up_compiling(bucket.params[0].device.type, error)
        bucket.run, bucket.reason, bucket.compiled = "foreach", reason, None
        bucket.work = list(_foreach(bucket))


def _compiles(p: Tensor) -> bool:
    """Not for lengths 0 and 1, for which torch.compile makes a kernel each, nor rows of 2, which have no spread."""
    return min(p.shape, default=0) > 2


def _sizes(bucket: Bucket) -> dict[int, int]:
    """Index and number of elements of the parameters there is something to do for."""
    return {i: p.numel() for i, p in enumerate(bucket.params) if p.numel()}


def _each(bucket: Bucket) -> Iterator[Work]:
    yield from (Work(bucket, [Part(i)]) for i in _sizes(bucket))


def _foreach(bucket: Bucket) -> Iterator[Work]:
    device = bucket.params[0].device.type
    limit = PIECE.get(device, PIECE_ELSEWHERE)
    if bucket.pipeline.reach == "tensor":
        yield from (Work(bucket, parts) for parts in _batches(bucket, [Part(i) for i in _sizes(bucket)], limit))
        return
    small, large = _by_size(bucket)
    pieces = [Part(i, "flat", (at, min(at + limit, n))) for i, n in large.items() for at in range(0, n, limit)]
    if device == "cpu":  # its foreach kernels are loops over the list, so lists gain nothing
        yield from _joined(bucket, small, limit)
        yield from (Work(bucket, [piece]) for piece in pieces)
    else:
        parts = [Part(i, "flat") for i in small] + pieces
        yield from (Work(bucket, batch) for batch in _batches(bucket, parts, limit))


def _compiled(bucket: Bucket) -> Iterator[Work]:
    if bucket.pipeline.reach == "tensor":
        yield from (Work(bucket, [Part(i, "rows")]) for i in _sizes(bucket))
        return
    small, large = _by_size(bucket)
    yield from _joined(bucket, small, PIECE_ELSEWHERE)
    yield from (Work(bucket, [Part(i, "flat")]) for i in large)


def _by_size(bucket: Bucket) -> tuple[dict[int, int], dict[int, int]]:
    """The sizes of the parameters to join, and of the others; stochastic rounding, which numbers elements, joins none."""
    limit = 0 if bucket.pipeline.stochastic else SMALL
    sizes = _sizes(bucket)
    return {i: n for i, n in sizes.items() if n < limit}, {i: n for i, n in sizes.items() if n >= limit}


def _joined(bucket: Bucket, small: Iterable[int], limit: int) -> Iterator[Work]:
    for parts in _batches(bucket, [Part(i, "flat") for i in small], limit):
        yield Work(bucket, parts, joined=len(parts) > 1)


def _batches(bucket: Bucket, parts: list[Part], limit: int) -> Iterator[list[Part]]:
    """Consecutive parts of up to ``limit`` elements together, at least one."""
    batch: list[Part] = []
    total = 0
    for part in parts:
        n = part.span[1] - part.span[0] if part.span else bucket.params[part.index].numel()
        if batch and total + n > limit:
            yield batch
            batch, total = [], 0
        batch.append(part)
        total += n
    if batch:
        yield batch


_ARRANGE = {"each": _each, "foreach": _foreach, "compiled": _compiled}
