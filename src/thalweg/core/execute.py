"""How a bucket runs: each tensor by itself, foreach in bounded chunks, or one compiled kernel.

All three hand the same pipeline the same numbers; they differ in how parameters are cut and joined before it:

- ``each``      whole tensors in their own shape: the plainest form, for any memory layout.
- ``foreach``   where elements do not look at each other, tensors are cut into pieces whose temporaries stay in cache,
                and small ones are joined; where they do, lists of whole tensors of bounded size.
- ``compiled``  small tensors joined, and eight at a time through one kernel of dynamic lengths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from thalweg.core import strategy
from thalweg.core.buckets import Bucket
from thalweg.core.compile import Form, Kernel, Numbers, Operands, kernel_for
from thalweg.core.work import Joined, Part, Work

PIECE = {"cpu": 1 << 18}  # elements of a chunk: 1 MiB of float32 and its temporaries stay in a core's cache
PIECE_ELSEWHERE = 1 << 24  # an accelerator wants long kernels; this still bounds the temporaries
JOINED = 1 << 20  # elements of a joined buffer, of which each state keeps one
TOGETHER = 8  # tensors a kernel takes: a call costs as much as 50,000 elements, a larger kernel longer to compile
SMALL = 1 << 14  # below this many elements, joining tensors costs less than a pass over each


@dataclass(eq=False)
class Call:
    """The works of one call: one, or as many as a kernel takes."""

    works: Sequence[Work | Joined]
    kernel: Kernel | None = None
    scratch: list[Tensor] = field(default_factory=list[Tensor])  # what the kernel leaves from pass to pass

    def operands(self, grads: list[Tensor]) -> list[Operands]:
        """What the kernel works on, loaded."""
        loaded = [(*work.load(grads), work.lane) for work in self.works]
        return [[p, g, *state.values(), *([] if lane is None else [lane])] for p, g, state, lane in loaded]


def run(bucket: Bucket, grads: list[Tensor], h: dict[str, Any]) -> None:
    """One step of a bucket; ``grads`` along its parameters, ``h`` the numbers of the step."""
    if not bucket.calls:
        _arrange(bucket, grads, h)
    if bucket.numbers is not None:
        bucket.numbers.update(h)
    prepared: dict[Kernel, list[Tensor]] = {}
    for call in bucket.calls:
        if (kernel := call.kernel) is None:
            for work in call.works:
                p, g, state = work.load(grads)
                bucket.pipeline.step(p, g, state, h["step"], h, work.lane)
        else:
            if kernel not in prepared:
                prepared[kernel] = kernel.prepare(bucket.numbers)
            kernel(chain.from_iterable(call.operands(grads)), prepared[kernel], call.scratch)
        for work in call.works:
            work.store()


def _arrange(bucket: Bucket, grads: list[Tensor], h: dict[str, Any]) -> None:
    """Cut the bucket up, and make every kernel it needs before anything is changed."""
    bucket.calls = [Call(works) for works in _ARRANGE[bucket.run](bucket)]
    if bucket.run != "compiled":
        return
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    bucket.numbers = Numbers(h)
    wanted: dict[Call, list[Form]] = {}
    try:
        for call in bucket.calls:
            sets = call.operands(grads)
            # Kernels are compiled for lengths above 1 and 31-bit indices; rows of 2 have no spread: those run as they are.
            if all(min(p.shape, default=0) > 2 and p.numel() < 1 << 31 for p, *_ in sets):
                call.kernel = kernel_for(bucket.pipeline, sets, list(bucket.state), bucket.numbers)
                wanted[call] = call.kernel.scratch(list(chain.from_iterable(sets)))
    except TorchDynamoException as error:
        reason = strategy.give_up_compiling(bucket.local[0].device.type, error)
        bucket.run, bucket.reason, bucket.numbers = "foreach", reason, None
        bucket.calls = [Call(works) for works in _foreach(bucket)]
        return
    _share_scratch(wanted, bucket.local[0].device)


def _share_scratch(wanted: dict[Call, list[Form]], device: torch.device) -> None:
    """Give calls their scratch tensors: one buffer for the k-th of all of them, as they follow one another."""
    sizes: dict[tuple[int, torch.dtype], int] = defaultdict(int)
    for forms in wanted.values():
        for k, (shape, dtype) in enumerate(forms):
            sizes[k, dtype] = max(sizes[k, dtype], shape.numel())
    buffers = {key: torch.empty(n, dtype=key[1], device=device) for key, n in sizes.items()}
    for call, forms in wanted.items():
        call.scratch = [buffers[k, dtype][: shape.numel()].view(shape) for k, (shape, dtype) in enumerate(forms)]


# Each of these yields the works of one call.


def _each(bucket: Bucket) -> Iterator[Sequence[Work | Joined]]:
    yield from ([Work(bucket, [Part(i)])] for i in _sizes(bucket))


def _foreach(bucket: Bucket) -> Iterator[Sequence[Work | Joined]]:
    device = bucket.local[0].device.type
    limit = PIECE.get(device, PIECE_ELSEWHERE)
    if bucket.pipeline.reach != "element" or not bucket.state:  # without state there is little to keep in cache
        parts = [Part(i) for i in _sizes(bucket)]
        yield from ([Work(bucket, batch)] for batch in _batches(bucket, parts, 4 * limit))
        return
    small, large = _by_size(bucket)
    pieces = [_flat(i, at, min(at + limit, n), n) for i, n in large.items() for at in range(0, n, limit)]
    if device == "cpu":  # where a foreach kernel is a loop, copying to one tensor costs less than a few of them
        joined = _batches(bucket, [Part(i) for i in small], limit)
        yield from ([Joined(bucket, [part.index for part in batch])] for batch in joined)
        yield from ([Work(bucket, [piece])] for piece in pieces)
    else:
        parts = [*(Part(i, "flat") for i in small), *pieces]
        yield from ([Work(bucket, batch)] for batch in _batches(bucket, parts, limit))


def _compiled(bucket: Bucket) -> Iterator[Sequence[Work | Joined]]:
    if bucket.pipeline.reach != "element":
        yield from ([Work(bucket, [Part(i, "rows")])] for i in _sizes(bucket))
        return
    small, large = _by_size(bucket)
    wholes = _batches(bucket, [Part(i) for i in small], JOINED)
    works: list[Work | Joined] = [Joined(bucket, [part.index for part in batch]) for batch in wholes]
    spans = [(i, 0, n) for i, n in large.items()]
    while spans and (len(works) + len(spans)) % TOGETHER:  # halve the largest until none is left over
        i, start, stop = spans.pop(max(range(len(spans)), key=lambda k: spans[k][2] - spans[k][1]))
        middle = (start + stop) // 2
        spans += [(i, start, middle), (i, middle, stop)]
    works += [Work(bucket, [_flat(i, start, stop, large[i])]) for i, start, stop in spans]
    together = TOGETHER if spans else 1
    yield from (works[k : k + together] for k in range(0, len(works), together))


def _flat(index: int, start: int, stop: int, size: int) -> Part:
    return Part(index, "flat", None if (start, stop) == (0, size) else (start, stop))


def _sizes(bucket: Bucket) -> dict[int, int]:
    """Index and number of elements of the parameters there is something to do for."""
    return {i: p.numel() for i, p in enumerate(bucket.local) if p.numel()}


def _by_size(bucket: Bucket) -> tuple[dict[int, int], dict[int, int]]:
    """The sizes of the small parameters, and of the others; stochastic rounding, which numbers elements, joins none."""
    limit = 0 if bucket.pipeline.stochastic else SMALL
    sizes = _sizes(bucket)
    return {i: n for i, n in sizes.items() if n < limit}, {i: n for i, n in sizes.items() if n >= limit}


def _batches(bucket: Bucket, parts: list[Part], limit: int) -> Iterator[list[Part]]:
    """Consecutive parts of up to ``limit`` elements together, at least one."""
    batch: list[Part] = []
    total = 0
    for part in parts:
        n = part.span[1] - part.span[0] if part.span else bucket.local[part.index].numel()
        if batch and total + n > limit:
            yield batch
            batch, total = [], 0
        batch.append(part)
        total += n
    if batch:
        yield batch


_ARRANGE = {"each": _each, "foreach": _foreach, "compiled": _compiled}
