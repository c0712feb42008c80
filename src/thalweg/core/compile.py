"""One compiled kernel for a pipeline, whatever the number and the sizes of the tensors.

The pipeline is traced once over one tensor of dynamic length, its numbers entering as 0-D tensors.  What depends on numbers
alone (1 − β₂ᵗ, ηλ) is split off the graph and evaluated in float64 once a step; left inside, it would be computed again for
every vector of elements, which costs three times the whole step.  The rest is one fused loop.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from thalweg.core.pipeline import Pipeline

_aten = torch.ops.aten


class Kernel:
    """A pipeline compiled for one number of dimensions, dtype and device.

    Raises:
        torch._dynamo.exc.TorchDynamoException: the compiler that was found does not work.
    """

    def __init__(self, pipeline: Pipeline, operands: list[Tensor], names: list[str], numbers: Numbers) -> None:
        def step(operands: list[Tensor], leaves: list[Tensor]) -> None:
            h = numbers.rebuild(leaves)
            p, g, *state = operands
            lane = state.pop() if pipeline.stochastic else None
            pipeline.step(p, g, dict(zip(names, state, strict=True)), h["step"], h, lane)

        # Traced and compiled with symbolic sizes on examples whose numbers decide nothing, but whose size tells the
        # compiler that a loop is worth its threads; unequal sides, or the kernel would be one for squares.
        sides = (1 << 10, 3 << 9) if operands[0].ndim > 1 else (1 << 20,)
        examples = [torch.ones(sides if x.ndim else (), dtype=x.dtype, device=x.device) for x in operands]
        graph = make_fx(step, decomposition_table=_PLAIN, tracing_mode="symbolic")(examples, list(numbers.leaves))
        self.prepare, body = split_numbers(graph, len(examples))
        self.run: Callable[..., None] = torch.compile(body, fullgraph=True, dynamic=True)
        self.run(*examples, *self.prepare(*numbers.leaves))


class Compiled:
    """The kernels one bucket uses, and this step's numbers as they take them."""

    def __init__(self, pipeline: Pipeline, names: list[str]) -> None:
        self._pipeline, self._names = pipeline, names
        self._numbers: Numbers | None = None
        self._kernels: dict[Any, Kernel] = {}
        self._prepared: dict[Kernel, list[Tensor]] = {}

    def begin(self, h: dict[str, Any]) -> None:
        """Take the numbers of a step."""
        if self._numbers is None or not self._numbers.fits(h):
            self._numbers, self._kernels = Numbers(h), {}
        self._numbers.update(h)
        self._prepared = {}

    def kernel(self, operands: list[Tensor]) -> Kernel:
        """The kernel for these operands, made when first asked for and shared by all optimizers of the process."""
        assert self._numbers is not None, "begin() comes first"
        key = tuple((x.ndim, x.dtype, x.device.type) for x in operands)
        if key not in self._kernels:
            shared = (self._pipeline, self._numbers.shape, key)
            if shared not in _kernels:
                _kernels[shared] = Kernel(self._pipeline, operands, self._names, self._numbers)
            self._kernels[key] = _kernels[shared]
        return self._kernels[key]

    def step(self, operands: list[Tensor]) -> None:
        """One step of parameter, gradient, state and lane, in place."""
        kernel = self.kernel(operands)
        if kernel not in self._prepared:
            self._prepared[kernel] = kernel.prepare(*self._numbers.leaves) if self._numbers else []
        kernel.run(*operands, *self._prepared[kernel])


_kernels: dict[Any, Kernel] = {}


class Numbers:
    """Named numbers as 0-D float64 tensors that keep their identity while their values change."""

    def __init__(self, h: dict[str, Any]) -> None:
        self.shape = _shape(h)
        self._last: list[Any] = [None] * len(_leaves(h))
        self.leaves = [x if isinstance(x, Tensor) else torch.zeros((), dtype=torch.float64) for x in _leaves(h)]

    def fits(self, h: dict[str, Any]) -> bool:
        """Whether ``h`` has the names, lengths and places these have."""
        return self.shape == _shape(h)

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
