"""How a bucket runs: each tensor by itself, foreach in bounded chunks, or one compiled kernel.

All three hand the same pipeline the same numbers; they differ in how parameters are cut and joined before it:

- ``each``      whole tensors in their own shape: the plainest form, for any memory layout.
- ``foreach``   where elements do not look at each other, tensors are cut into pieces whose temporaries stay in cache,
                and small ones are joined; where they do, lists of whole tensors of bounded size.
- ``compiled``  small tensors joined, every other by itself, through one kernel of dynamic length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from thalweg.core import strategy
from thalweg.core.buckets import Bucket
from thalweg.core.compile import Compiled
from thalweg.core.work import Joined, Part, Work

PIECE = {"cpu": 1 << 18}  # elements of a chunk: 1 MiB of float32 and its temporaries stay in a core's cache
PIECE_ELSEWHERE = 1 << 24  # an accelerator wants long kernels; this still bounds the temporaries
JOINED = 1 << 20  # elements of a joined buffer, of which each state keeps one
SMALL = 1 << 14  # below this many elements, joining tensors costs less than a pass over each


def run(bucket: Bucket, grads: list[Tensor], h: dict[str, Any]) -> None:
    """One step of a bucket; ``grads`` along its parameters, ``h`` the numbers of the step."""
    if not bucket.work:
        _arrange(bucket, grads, h)
    if bucket.compiled is not None:
        bucket.compiled.begin(h)
    for work in bucket.work:
        p, g, state = work.load(grads)
        if bucket.compiled is not None and _compiles(p):
            bucket.compiled.step(_operands(p, g, state, work.lane))
        else:
            bucket.pipeline.step(p, g, state, h["step"], h, work.lane)
        work.store()


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
                bucket.compiled.kernel(_operands(p, g, state, work.lane))
    except TorchDynamoException as error:
        reason = strategy.give_up_compiling(bucket.params[0].device.type, error)
        bucket.run, bucket.reason, bucket.compiled = "foreach", reason, None
        bucket.work = list(_foreach(bucket))


def _compiles(p: Tensor) -> bool:
    """Not for lengths 0 and 1, for which torch.compile makes a kernel each, nor rows of 2, which have no spread."""
    return min(p.shape, default=0) > 2


def _operands(p: Tensor, g: Tensor, state: dict[str, Tensor], lane: Tensor | None) -> list[Tensor]:
    return [p, g, *state.values(), *([] if lane is None else [lane])]


def _each(bucket: Bucket) -> Iterator[Work]:
    yield from (Work(bucket, [Part(i)]) for i in _sizes(bucket))


def _foreach(bucket: Bucket) -> Iterator[Work | Joined]:
    device = bucket.params[0].device.type
    limit = PIECE.get(device, PIECE_ELSEWHERE)
    if bucket.pipeline.reach == "tensor":
        yield from _batches(bucket, [Part(i) for i in _sizes(bucket)], limit)
        return
    small, large = _by_size(bucket)
    pieces = [Part(i, "flat", (at, min(at + limit, n))) for i, n in large.items() for at in range(0, n, limit)]
    if device != "cpu":
        yield from _batches(bucket, [*(Part(i, "flat") for i in small), *pieces], limit)
        return
    if bucket.state:  # on the CPU a foreach kernel is a loop, which joining pays for from about five of them
        yield from _joined(bucket, small, limit)
    else:
        yield from _batches(bucket, [Part(i) for i in small], limit)
    yield from (Work(bucket, [piece]) for piece in pieces)


def _compiled(bucket: Bucket) -> Iterator[Work | Joined]:
    if bucket.pipeline.reach == "tensor":
        yield from (Work(bucket, [Part(i, "rows")]) for i in _sizes(bucket))
        return
    small, large = _by_size(bucket)
    yield from _joined(bucket, small, JOINED)
    yield from (Work(bucket, [Part(i, "flat")]) for i in large)


def _sizes(bucket: Bucket) -> dict[int, int]:
    """Index and number of elements of the parameters there is something to do for."""
    return {i: p.numel() for i, p in enumerate(bucket.params) if p.numel()}


def _by_size(bucket: Bucket) -> tuple[dict[int, int], dict[int, int]]:
    """The sizes of the small parameters, and of the others; stochastic rounding, which numbers elements, joins none."""
    limit = 0 if bucket.pipeline.stochastic else SMALL
    sizes = _sizes(bucket)
    return {i: n for i, n in sizes.items() if n < limit}, {i: n for i, n in sizes.items() if n >= limit}


def _joined(bucket: Bucket, small: Iterable[int], limit: int) -> Iterator[Joined]:
    for work in _batches(bucket, [Part(i) for i in small], limit):
        yield Joined(bucket, [part.index for part in work.parts])


def _batches(bucket: Bucket, parts: list[Part], limit: int) -> Iterator[Work]:
    """Consecutive parts of up to ``limit`` elements together, at least one."""
    batch: list[Part] = []
    total = 0
    for part in parts:
        n = part.span[1] - part.span[0] if part.span else bucket.params[part.index].numel()
        if batch and total + n > limit:
            yield Work(bucket, batch)
            batch, total = [], 0
        batch.append(part)
        total += n
    if batch:
        yield Work(bucket, batch)


_ARRANGE = {"each": _each, "foreach": _foreach, "compiled": _compiled}
