"""A traced step cut into passes over memory.

A number that looks at a whole tensor (a mean, a norm) must be finished before what uses it begins, so a step with such
numbers goes over its tensors several times.  What a later pass needs of an earlier one's elements it computes again from the
operands: arithmetic costs less than a round trip through memory.  Only roots and quotients, which do not, stay in scratch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx

from thalweg.core import means
from thalweg.core.means import is_by_row, shape

_aten = torch.ops.aten
_COSTLY = frozenset(
    (
        _aten.div.Tensor,
        _aten.pow.Tensor_Scalar,
        _aten.pow.Tensor_Tensor,
        _aten.reciprocal.default,
        _aten.sqrt.default,
    )
)


@dataclass(frozen=True)
class Pass:
    """One loop over memory: the names of what it takes, and of the reductions that it returns."""

    graph: fx.GraphModule
    takes: tuple[str, ...]
    returns: tuple[str, ...]


@dataclass(frozen=True)
class Passes:
    """The passes in order, and the scratch tensors between them."""

    values: tuple[str, ...]  # the inputs of the whole, the scratch tensors, and what each pass returns, in this order
    scratch: tuple[tuple[str, torch.dtype], ...]  # an input that each of them is shaped like, and its dtype
    passes: tuple[Pass, ...]


def cut(body: fx.GraphModule) -> Passes:
    """Cut a functional graph, whose only effects are the ``copy_`` into its operands at the end."""
    means.distribute(body.graph)
    plan = _Plan(body)
    passes = tuple(plan.build(body, level) for level in range(1 + max(plan.level.values())))
    inputs = [n.name for n in body.graph.nodes if n.op == "placeholder"]
    returned = [name for one in passes for name in one.returns]
    like = {shape(operand): operand.name for operand in reversed(plan.operands)}
    scratch = tuple((like[shape(n)], n.meta["val"].dtype) for n in plan.kept)
    return Passes((*inputs, *(n.name for n in plan.kept), *returned), scratch, passes)


class _Plan:
    """In which pass each result, write and kept value is made."""

    def __init__(self, body: fx.GraphModule) -> None:
        nodes = list(body.graph.nodes)
        self.operands = [n for n in nodes if n.op == "placeholder" and shape(n)]
        self.shapes = {shape(n) for n in self.operands}
        self.write = {cast(fx.Node, n.args[0]): n for n in nodes if n.target is _aten.copy_.default}
        self.kept: list[fx.Node] = []
        self._earliest: dict[fx.Node, int] = {}
        small = [n for n in nodes if n.op == "call_function" and self.is_small(n)]
        self.results = [
            n
            for n in small
            if any(not self.is_small(user) or self.earliest(user) > self.earliest(n) for user in n.users)
        ]
        self.level = {n: self.earliest(n) for n in (*self.results, *self.write.values())}
        while self._revise():
            pass

    def is_small(self, n: fx.Node) -> bool:
        """Whether a value is a reduction, or computed from reductions alone."""
        return n.op == "call_function" and isinstance(n.meta.get("val"), Tensor) and shape(n) not in self.shapes

    def earliest(self, n: fx.Node) -> int:
        """The first pass that can make ``n``: one after those that find a number it uses; a row's are found on the way."""
        if n not in self._earliest:
            waits = {i: self.is_small(i) and not self.is_small(n) and not is_by_row(i) for i in _inputs(n)}
            self._earliest[n] = max((self.earliest(i) + waits[i] for i in waits), default=0)
        return self._earliest[n]

    def needs(self, n: fx.Node, level: int) -> Iterator[fx.Node]:
        """What the pass of this level computes ``n`` from, down to what it is given."""
        seen: set[fx.Node] = set()
        found = list(_inputs(n))
        while found:
            if (i := found.pop()) not in seen:
                seen.add(i)
                yield i
                if self.given(i, level) is None:
                    found += i.all_input_nodes

    def given(self, n: fx.Node, level: int) -> fx.Node | None:
        """Where the pass of this level finds the value of ``n``, if it is there: an input, a result, scratch, an operand."""
        if n.op == "placeholder" or self.level.get(n, level) < level:
            return n
        return next((o for o, w in self.write.items() if w.args[1] is n and self.level[w] < level), None)

    def _revise(self) -> bool:
        """Keep a costly value that a later pass needs, or put off a write over something that one needs; False if none does."""
        for n, level in self.level.items():
            for i in self.needs(n, level):
                if i.target in _COSTLY and i not in self.level and not self.is_small(i) and self.earliest(i) < level:
                    self.kept.append(i)
                    self.level[i] = self.earliest(i)
                    return True
                if i in self.write and self.level[self.write[i]] < level:
                    self.level[self.write[i]] = level
                    return True
        return False

    def build(self, body: fx.GraphModule, level: int) -> Pass:
        """One pass as a function of its own."""
        own = [n for n, at in self.level.items() if at == level]
        results = [n for n in own if n in self.results]
        stored = {_target(n): _value(n) for n in own if n not in self.results}
        needed = dict.fromkeys(i for n in own for i in self.needs(n, level))
        source = {i: place for i in needed if (place := self.given(i, level)) is not None}
        taken = list(dict.fromkeys((*source.values(), *stored)))

        graph = fx.Graph()
        entering = {n: copy_placeholder(graph, n) for n in taken}
        read = {n: entering[place] for n, place in source.items()}  # what stands for a value where it is used
        value = dict(read)

        def make(n: fx.Node) -> None:
            if n not in read:
                for i in n.all_input_nodes:
                    make(i)
                read[n] = value[n] = graph.node_copy(n, read.__getitem__)
                if n in stored.values():
                    read[n] = _from_memory(graph, n, value[n])

        for n in (*stored.values(), *results):
            make(n)
        for place, n in stored.items():
            graph.call_function(_aten.copy_.default, (entering[place], value[n]))
        graph.output(tuple(value[n] for n in results))
        return Pass(fx.GraphModule(body, graph), tuple(n.name for n in taken), tuple(n.name for n in results))


def copy_placeholder(graph: fx.Graph, n: fx.Node) -> fx.Node:
    """An input of ``graph`` named as ``n``, of its shape."""
    entering = graph.placeholder(n.name)
    entering.meta = dict(n.meta)
    return entering


def _target(n: fx.Node) -> fx.Node:
    """Where a value is stored: a write's operand, or scratch under its own name."""
    return cast(fx.Node, n.args[0]) if n.target is _aten.copy_.default else n


def _value(n: fx.Node) -> fx.Node:
    """What a write writes; any other value itself."""
    return cast(fx.Node, n.args[1]) if n.target is _aten.copy_.default else n


def _inputs(n: fx.Node) -> list[fx.Node]:
    """What a value is computed from."""
    return [_value(n)] if n.target is _aten.copy_.default else n.all_input_nodes


def _from_memory(graph: fx.Graph, n: fx.Node, value: fx.Node) -> fx.Node:
    """A value that is stored, as its users shall read it: asking for its strides keeps the compiler from computing it twice."""
    sizes = [graph.call_function(_aten.sym_size.int, (value, d)) for d in range(len(shape(n)))]
    return graph.call_function(_aten.as_strided.default, (value, sizes, [*sizes[1:], 1]))
