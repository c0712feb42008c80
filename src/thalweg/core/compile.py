"""One compiled kernel for a pipeline, whatever the number and the sizes of the tensors.

The pipeline is traced once over a few tensors of dynamic length, its numbers entering as 0-D tensors.  What depends on numbers
alone (1 − β₂ᵗ, ηλ) is split off the graph and evaluated in float64 once a step; left inside, it would be computed again for
every vector of elements, which costs three times the whole step.  The rest is one fused loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from thalweg.core.pipeline import Pipeline

_aten = torch.ops.aten

Operands: TypeAlias = list[Tensor]
"""Parameter, gradient, the states in order, and the lane where there is one: what one tensor's step works on."""


class Kernel:
    """A pipeline compiled for so many tensors of one number of dimensions, dtype and device.

    Raises:
        torch._dynamo.exc.TorchDynamoException: the compiler that was found does not work.
    """

    def __init__(self, pipeline: Pipeline, sets: list[Operands], names: list[str], numbers: Numbers) -> None:
        def step(sets: list[Operands], leaves: list[Tensor]) -> None:
            h = numbers.rebuild(leaves)
            for p, g, *rest in sets:
                lane = rest.pop() if pipeline.stochastic else None
                pipeline.step(p, g, dict(zip(names, rest, strict=True)), h["step"], h, lane)

        examples = [_example(operands, i) for i, operands in enumerate(sets)]
        graph = make_fx(step, decomposition_table=_PLAIN, tracing_mode="symbolic")(examples, list(numbers.leaves))
        prologue, body = split_numbers(graph, sum(map(len, sets)))
        self._prologue = prologue.forward
        self._body = cut_at_reductions(body)
        self(chain.from_iterable(examples), self.prepare(numbers))

    def prepare(self, numbers: Numbers) -> list[Tensor]:
        """What the kernel needs of this step's numbers."""
        return self._prologue(*numbers.leaves)

    def __call__(self, operands: Iterable[Tensor], prepared: list[Tensor]) -> None:
        """One step of all its tensors, in place."""
        self._body(*operands, *prepared)


def _example(operands: Operands, i: int) -> Operands:
    """Tensors to trace and compile with.

    Their numbers decide nothing, their sizes stay symbolic, but tell the compiler that a loop is worth its threads; all are
    unequal, because equal ones would be taken for one size.
    """
    sides = ((3 << 7) + i, (1 << 9) + i)
    shapes = {0: (), 1: ((1 << 17) + i,)}
    return [torch.ones(shapes.get(x.ndim, sides), dtype=x.dtype, device=x.device) for x in operands]


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
    mapped = {n: body.placeholder(n.name) for n in placeholders[:n_operands]}
    entering: dict[fx.Node, fx.Node] = {}
    for i in (i for n in calls if n not in numeric for i in n.all_input_nodes if i in numeric):
        if numeric[i] not in entering:
            entering[numeric[i]] = body.placeholder(i.name)
        mapped[i] = entering[numeric[i]]
    for n in calls:
        if n not in numeric:
            mapped[n] = body.node_copy(n, mapped.__getitem__)

    prologue.output(list(entering))
    prologue.eliminate_dead_code()
    body.output(())
    return fx.GraphModule(graph, prologue), fx.GraphModule(graph, body)


_REDUCTIONS = frozenset(
    (
        _aten.amax.default,
        _aten.linalg_vector_norm.default,
        _aten.mean.default,
        _aten.mean.dim,
        _aten.std.correction,
        _aten.sum.default,
        _aten.sum.dim_IntList,
        _aten.var.correction,
    )
)


def cut_at_reductions(body: fx.GraphModule) -> Callable[..., None]:
    """The body as one compiled function for each stretch between a reduction and the first use of its result.

    torch's CPU backend breaks on some graphs that it may fuse across reductions (a KeyError for a buffer, torch 2.13); a mean
    has to be finished before it is used in any case.  A body without reductions stays in one piece, one loop over memory.
    """
    names = [n.name for n in body.graph.nodes if n.op == "placeholder"]
    stretches: list[list[fx.Node]] = [[]]
    for n in (n for n in body.graph.nodes if n.op == "call_function"):
        if any(i.target in _REDUCTIONS for i in n.all_input_nodes if i in stretches[-1]):
            stretches.append([])
        stretches[-1].append(n)
    if len(stretches) == 1:
        return _compiled(body)

    steps: list[tuple[Callable[..., Any], list[str], list[str]]] = []
    for k, nodes in enumerate(stretches):
        graph = fx.Graph()
        inputs = dict.fromkeys(i for n in nodes for i in n.all_input_nodes if i not in nodes)
        mapped = {i: graph.placeholder(i.name) for i in inputs}
        for n in nodes:
            mapped[n] = graph.node_copy(n, mapped.__getitem__)
        later = {i for rest in stretches[k + 1 :] for n in rest for i in n.all_input_nodes}
        results = [n for n in nodes if n in later]
        graph.output(tuple(mapped[n] for n in results))
        steps.append((_compiled(fx.GraphModule(body, graph)), [i.name for i in inputs], [n.name for n in results]))

    def run(*operands: Tensor) -> None:
        values = dict(zip(names, operands, strict=True))
        for function, inputs, results in steps:
            values |= zip(results, function(*(values[name] for name in inputs)), strict=True)

    return run


def _compiled(graph: fx.GraphModule) -> Callable[..., Any]:
    return torch.compile(graph.forward, fullgraph=True, dynamic=True)


def _lerp(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Without torch's branch on |weight| < ½, which would sit in the inner loop."""
    return start + weight * (end - start)


def _lerp_(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return start.copy_(_lerp(start, end, weight))


_PLAIN: dict[Any, Callable[..., Tensor]] = {_aten.lerp.Tensor: _lerp, _aten.lerp_.Tensor: _lerp_}
