"""The algebra of means in a traced step: what is a number to a mean is taken out of it.

mean(sx + y) is s·mean(x) + mean(y), and mean((sx)·y) is s·mean(xy).  Where s is itself found by going over the tensor, as the
factor of a clip is, the means on the right can be found on the same way, and a whole pass over memory is saved.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

_aten = torch.ops.aten
_MEANS = frozenset((_aten.mean.default, _aten.mean.dim))
REDUCTIONS = _MEANS | frozenset((_aten.amax.default, _aten.sum.default, _aten.sum.dim_IntList))


def distribute(graph: fx.Graph) -> None:
    """Take numbers out of the means that would otherwise have to wait for them."""
    depth: dict[fx.Node, int] = {}

    def waits_for(n: fx.Node) -> int:
        """How many reductions, one after the other, a value rests on."""
        if n not in depth:
            depth[n] = max((waits_for(i) + (i.target in REDUCTIONS) for i in n.all_input_nodes), default=0)
        return depth[n]

    for mean in [n for n in graph.nodes if n.target in _MEANS and shape(n) != shape(n.args[0])]:
        with graph.inserting_before(mean):
            new = _Expansion(graph, mean)
        if max(waits_for(n) for n in new.means) < waits_for(mean):
            mean.replace_all_uses_with(new.value)
    for n in reversed(graph.nodes):
        if n.op == "call_function" and not n.users and n.target is not _aten.copy_.default:
            graph.erase_node(n)


class _Expansion:
    """A mean as an expression of the means of what its argument is made of."""

    def __init__(self, graph: fx.Graph, mean: fx.Node) -> None:
        self._graph, self._mean = graph, mean
        self.means: list[fx.Node] = []
        self.value = self._mean_of(cast(fx.Node, mean.args[0]))

    def _mean_of(self, x: fx.Node) -> fx.Node:
        numbers, x = self._product(x)
        if x.target in (_aten.add.Tensor, _aten.sub.Tensor) and all(map(self._fits, x.args)):
            value = self._call(x.target, *(a if self._is_number(a) else self._mean_of(a) for a in x.args))  # pyright: ignore[reportArgumentType]
        else:
            value = self._call(self._mean.target, x, *self._mean.args[1:])
            self.means.append(value)
        for operation, s in numbers:
            value = self._call(operation, value, s)
        return value

    def _product(self, x: fx.Node) -> tuple[list[tuple[Any, Any]], fx.Node]:
        """The numbers that ``x`` is multiplied with or divided by, and the rest."""
        divided = x.target is _aten.div.Tensor and self._is_number(x.args[1])
        if not divided and x.target is not _aten.mul.Tensor:
            return [], x
        numbers = [(x.target, a) for a in x.args if self._is_number(a)]
        split = [self._product(cast(fx.Node, a)) for a in x.args if not self._is_number(a)]
        numbers += [s for own, _ in split for s in own]
        rest = [y for _, y in split]
        return numbers, rest[0] if len(rest) == 1 else self._call(x.target, *rest) if numbers else x

    def _is_number(self, a: Any) -> bool:
        return not isinstance(a, fx.Node) or shape(a) in ((), shape(self._mean))

    def _fits(self, a: Any) -> bool:
        return self._is_number(a) or shape(a) == shape(cast(fx.Node, self._mean.args[0]))

    def _call(self, target: Any, *args: Any) -> fx.Node:
        n = self._graph.call_function(target, args, self._mean.kwargs if target is self._mean.target else None)
        n.meta["val"] = target(*map_arg(args, lambda i: i.meta["val"]), **n.kwargs)
        return n


def shape(n: fx.Node) -> tuple[str, ...]:
    """The sizes, symbols or numbers, in words: comparing symbols themselves would fix them."""
    value = n.meta.get("val")
    return tuple(map(str, value.shape)) if isinstance(value, Tensor) else ()


def is_by_row(n: fx.Node) -> bool:
    """Of a small value, whether there is one for each row."""
    return any(size != "1" for size in shape(n))
