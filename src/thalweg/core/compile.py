"""One compiled kernel for a pipeline, whatever the number and the sizes of the tensors.

The pipeline is traced once over one tensor of dynamic length, its numbers entering as 0-D tensors.  What depends on numbers
alone (1 − β₂ᵗ, ηλ) is split off the graph and evaluated in float64 once a step; left inside, it would be computed again for
every vector of elements, which costs three times the whole step.  The rest is one fused loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from thalweg.core.pipeline import Pipeline

_aten = torch.ops.aten


class Kernel:
    """A pipeline compiled for one number of dimensions, dtype and device."""

    def __init__(self, pipeline: Pipeline, operands: list[Tensor], names: list[str], numbers: Numbers) -> None:
        examples = [torch.ones((6, 10)[: x.ndim] or (), dtype=x.dtype, device=x.device) for x in operands]

        def step(operands: list[Tensor], leaves: list[Tensor]) -> None:
            h = numbers.rebuild(leaves)
            p, g, *state = operands
            lane = state.pop() if pipeline.stochastic else None
            pipeline.step(p, g, dict(zip(names, state, strict=True)), h["step"], h, lane)

        # Traced with symbolic sizes; the example's own numbers decide nothing.
        graph = make_fx(step, decomposition_table=_PLAIN, tracing_mode="symbolic")(examples, list(numbers.leaves))
        self._prologue, body = split_numbers(graph, len(examples))
        self._body: Callable[..., Any] = torch.compile(body, fullgraph=True, dynamic=True)

    def prepare(self, numbers: Numbers) -> list[Tensor]:
        """What the kernel needs of this step's numbers."""
        return self._prologue(*numbers.leaves)

    def __call__(self, operands: list[Tensor], prepared: list[Tensor]) -> None:
        """One step of one tensor, in place."""
        self._body(*operands, *prepared)


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
        return {name: next(rest) if n is None else tuple(next(rest) for _ in range(n)) for name, n, _ in self.shape}


def _leaves(h: dict[str, Any]) -> list[Any]:
    leaves: list[Any] = []
    for value in h.values():
        leaves += cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
    return leaves


def _shape(h: dict[str, Any]) -> tuple[tuple[str, int | None, str], ...]:
    def place(value: Any) -> str:
        return ", ".join(str((x.device, x.dtype)) if isinstance(x, Tensor) else "" for x in _leaves({"": value}))

    return tuple((name, len(_leaves({name: v})) if isinstance(v, tuple) else None, place(v)) for name, v in h.items())


def numbers_for(h: dict[str, Any], last: Numbers | None) -> Numbers:
    """``last`` with this step's values, or a new set where names or places differ."""
    if last is None or last.shape != _shape(h):
        return Numbers(h)
    last.update(h)
    return last


_kernels: dict[Any, Kernel] = {}


def kernel_for(pipeline: Pipeline, operands: list[Tensor], names: list[str], numbers: Numbers) -> Kernel:
    """The kernel for these operands, made when first asked for and shared by all optimizers of the process."""
    key = (pipeline, numbers.shape, *((x.ndim, x.dtype, x.device.type) for x in operands))
    if key not in _kernels:
        _kernels[key] = Kernel(pipeline, operands, names, numbers)
    return _kernels[key]


def split_numbers(graph: fx.GraphModule, n_operands: int) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut a traced step in two: what needs its numbers alone, and the rest, which takes the first part's results."""
    nodes = list(graph.graph.nodes)
    placeholders = [n for n in nodes if n.op == "placeholder"]
    numeric = set(placeholders[n_operands:])
    for n in nodes:
        if n.op == "call_function" and n.all_input_nodes and numeric.issuperset(n.all_input_nodes):
            numeric.add(n)

    parts = {True: fx.Graph(), False: fx.Graph()}
    copies: dict[bool, dict[fx.Node, fx.Node]] = {True: {}, False: {}}
    for n in placeholders:
        copies[n in numeric][n] = parts[n in numeric].placeholder(n.name)
    crossing = [n for n in nodes if n in numeric and any(user not in numeric for user in n.users)]
    for n in crossing:
        copies[False][n] = parts[False].placeholder(n.name)
    for n in nodes:
        if n.op not in ("placeholder", "output"):
            side = n in numeric
            copies[side][n] = parts[side].node_copy(n, copies[side].__getitem__)
    parts[True].output([copies[True][n] for n in crossing])
    parts[False].output(())
    for part in parts.values():
        part.eliminate_dead_code()
    return fx.GraphModule(graph, parts[True]), fx.GraphModule(graph, parts[False])


def _lerp(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Without torch's branch on |weight| < ½, which would sit in the inner loop."""
    return start + weight * (end - start)


def _lerp_(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return start.copy_(_lerp(start, end, weight))


_PLAIN: dict[Any, Callable[..., Tensor]] = {_aten.lerp.Tensor: _lerp, _aten.lerp_.Tensor: _lerp_}
