"""One compiled kernel for a pipeline, whatever the number and the sizes of the tensors.

The pipeline is traced once over a few tensors of dynamic length, its numbers entering as 0-D tensors.  What depends on numbers
alone (1 − β₂ᵗ, ηλ) is split off the graph and evaluated in float64 once a step; left inside, it would be computed again for
every vector of elements, which costs three times the whole step.  The rest is one fused loop, or a few: see ``passes``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, fx
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from thalweg.core import passes
from thalweg.core.passes import copy_placeholder
from thalweg.core.pipeline import Pipeline

_aten = torch.ops.aten

Operands: TypeAlias = list[Tensor]
"""Parameter, gradient, the states in order, and the lane where there is one: what one tensor's step works on."""

Form: TypeAlias = tuple[torch.Size, torch.dtype]
"""Shape and dtype of a tensor."""


class Kernel:
    """A pipeline compiled for so many tensors of one number of dimensions, dtype and device.

    Raises:
        torch._dynamo.exc.TorchDynamoException: the compiler that was found does not work.
    """

    def __init__(self, pipeline: Pipeline, sets: list[Operands], names: list[str], numbers: Numbers) -> None:
        from torch._inductor import standalone_compile  # takes a second to import

        def step(sets: list[Operands], leaves: list[Tensor]) -> None:
            h = numbers.rebuild(leaves)
            for p, g, *rest in sets:
                lane = rest.pop() if pipeline.stochastic else None
                pipeline.step(p, g, dict(zip(names, rest, strict=True)), h["step"], h, lane)

        examples = [_example(operands, i) for i, operands in enumerate(sets)]
        trace = make_fx(functionalize(step), decomposition_table=_PLAIN, tracing_mode="symbolic")
        prologue, body = split_numbers(trace(examples, list(numbers.leaves)), sum(map(len, sets)))
        planned = passes.cut(body)
        place = {name: i for i, name in enumerate(planned.values)}
        self._prologue = prologue.forward
        self._like = [(place[name], dtype) for name, dtype in planned.scratch]
        self._passes: list[tuple[Callable[..., list[Tensor]], tuple[int, ...]]] = []
        values = [*chain.from_iterable(examples), *self.prepare(numbers)]
        values += [torch.empty(shape, dtype=dtype, device=values[0].device) for shape, dtype in self.scratch(values)]
        for one in planned.passes:
            takes = tuple(place[name] for name in one.takes)
            taken = [values[i] for i in takes]
            function = standalone_compile(one.graph, taken, options={"config_patches": _FUSE})
            self._passes.append((function, takes))
            values += function(*taken)

    def prepare(self, numbers: Numbers) -> list[Tensor]:
        """What the kernel needs of this step's numbers."""
        return self._prologue(*numbers.leaves)

    def scratch(self, operands: list[Tensor]) -> list[Form]:
        """The tensors that a step of ``operands`` needs to leave values in from pass to pass."""
        return [(operands[i].shape, dtype) for i, dtype in self._like]

    def __call__(self, operands: Iterable[Tensor], prepared: list[Tensor], scratch: list[Tensor]) -> None:
        """One step of all its tensors, in place."""
        values = [*operands, *prepared, *scratch]
        for function, takes in self._passes:
            values += function(*[values[i] for i in takes])


def _example(operands: Operands, i: int) -> Operands:
    """Tensors to trace and compile with.

    Their numbers decide nothing, their sizes stay symbolic, but tell the compiler that a loop is worth its threads; all are
    unequal, because equal ones would be taken for one size.  Rows do not touch, so that loops over them stay loops over them:
    some of a pass's merged with the next and others not could not share a sweep.
    """
    if operands[0].ndim == 2:
        size, stride = ((3 << 7) + i, (1 << 9) + i), ((5 << 7) + i, 1)
    else:
        size, stride = ((1 << 17) + i,), (1,)
    return [
        torch.empty_strided(size if x.ndim else (), stride if x.ndim else (), dtype=x.dtype, device=x.device).fill_(1)
        for x in operands
    ]


_kernels: dict[Any, Kernel] = {}


def kernel_for(pipeline: Pipeline, sets: list[Operands], names: list[str], numbers: Numbers) -> Kernel:
    """The kernel for these operands, made when first asked for and shared by all optimizers of the process."""
    key = (pipeline, numbers.shape, tuple((x.ndim, x.dtype, x.device.type) for operands in sets for x in operands))
    if key not in _kernels:
        _kernels[key] = Kernel(pipeline, sets, names, numbers)
    return _kernels[key]


class Numbers:
    """Named numbers as 0-D float64 tensors that keep their identity while their values change."""

    def __init__(self, h: dict[str, Any]) -> None:
        self.shape = _shape(h)
        self._last: list[Any] = [None] * len(_leaves(h))
        self.leaves = [x if isinstance(x, Tensor) else torch.zeros((), dtype=torch.float64) for x in _leaves(h)]
        self.update(h)

    def update(self, h: dict[str, Any]) -> None:
        """Take this step's values."""
        for i, value in enumerate(_leaves(h)):
            if isinstance(value, Tensor):
                self.leaves[i] = value
            elif value != self._last[i]:
                self.leaves[i].fill_(value)
                self._last[i] = value

    def rebuild(self, leaves: list[Tensor]) -> dict[str, Any]:
        """The dict that ``leaves`` was flattened from."""
        rest = iter(leaves)
        h: dict[str, Any] = {}
        for name, place in self.shape:
            h[name] = tuple(islice(rest, len(cast("tuple[Any]", place)))) if isinstance(place, tuple) else next(rest)
        return h


def _leaves(h: dict[str, Any]) -> list[Any]:
    leaves: list[Any] = []
    for value in h.values():
        leaves += cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
    return leaves


def _shape(h: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    def place(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(place, cast("tuple[Any, ...]", value)))
        return f"{value.dtype} on {value.device}" if isinstance(value, Tensor) else None

    return tuple((name, place(value)) for name, value in h.items())


def split_numbers(graph: fx.GraphModule, n_operands: int) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut a traced step in two: what needs its numbers alone, and the rest, which takes the first part's results."""
    placeholders = [n for n in graph.graph.nodes if n.op == "placeholder"]
    calls = [n for n in graph.graph.nodes if n.op == "call_function"]

    prologue = fx.Graph()
    numeric = {n: prologue.placeholder(n.name) for n in placeholders[n_operands:]}
    known: dict[Any, fx.Node] = {}  # the trace computes every number again for each tensor
    for n in calls:
        if n.all_input_nodes and all(i in numeric for i in n.all_input_nodes):
            key = (n.target, *(numeric[x] if isinstance(x, fx.Node) else x for x in n.args), str(n.kwargs))
            known[key] = numeric[n] = known.get(key) or prologue.node_copy(n, numeric.__getitem__)

    inverses: dict[fx.Node, fx.Node] = {}  # x / c costs several x · (1/c)
    for n in calls:
        if n not in numeric and n.target is _aten.div.Tensor and n.args[1] in numeric:
            c = numeric[cast(fx.Node, n.args[1])]
            if c not in inverses:
                inverses[c] = graph.graph.call_function(_aten.reciprocal.default, (n.args[1],))
                numeric[inverses[c]] = prologue.call_function(_aten.reciprocal.default, (c,))
            n.target, n.args = _aten.mul.Tensor, (n.args[0], inverses[c])

    body = fx.Graph()
    mapped = {n: copy_placeholder(body, n) for n in placeholders[:n_operands]}
    entering: dict[fx.Node, fx.Node] = {}
    for i in (i for n in calls if n not in numeric for i in n.all_input_nodes if i in numeric):
        if numeric[i] not in entering:
            entering[numeric[i]] = copy_placeholder(body, i)
        mapped[i] = entering[numeric[i]]
    for n in calls:
        if n not in numeric:
            mapped[n] = body.node_copy(n, mapped.__getitem__)

    prologue.output(list(entering))
    prologue.eliminate_dead_code()
    body.output(())
    return fx.GraphModule(graph, prologue), fx.GraphModule(graph, body)


def _lerp(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Without torch's branch on |weight| < ½, which would sit in the inner loop."""
    return start + weight * (end - start)


def _lerp_(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return start.copy_(_lerp(start, end, weight))


def _std(x: Tensor, dim: list[int] | None = None, *, correction: float = 1, keepdim: bool = False) -> Tensor:
    """By two sums over rows that stay in cache; torch's compiled form divides for every element."""
    dim = list(range(x.ndim)) if dim is None else dim
    off = x - x.mean(dim, keepdim=True)
    return ((off * off).sum(dim, keepdim=keepdim) / (math.prod(x.shape[d] for d in dim) - correction)).sqrt()


def _by_rows(over: Any) -> Callable[[Tensor], Tensor]:
    """A reduction of a matrix as one of its rows and one of their results: each row's in a register, and more exact."""

    def reduce(x: Tensor) -> Tensor:
        return over(over(x, [1], True), [0, 1]) if x.ndim == 2 else over(x, list(range(x.ndim)))

    return reduce


def _copy(x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What ``x`` holds after ``x.copy_(source)``, of the same shape here."""
    return source.to(x.dtype)


_PLAIN: dict[Any, Callable[..., Tensor]] = {
    _aten.copy.default: _copy,
    _aten.mean.default: _by_rows(_aten.mean.dim),
    _aten.sum.default: _by_rows(_aten.sum.dim_IntList),
    _aten.lerp.Tensor: _lerp,
    _aten.lerp_.Tensor: _lerp_,
    _aten.std.correction: _std,
}

_FUSE = dict.fromkeys(("realize_reads_threshold", "realize_opcount_threshold", "realize_acc_reads_threshold"), 1 << 20)
"""A pass is one loop: nothing of it is to be written to memory on the way, however long its expressions."""
