"""How a parameter is read as matrices: where fused ones are cut, which dimension is the output, what is stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

from thalweg.routing.attention import is_attention, number, qkv
from thalweg.routing.network import Node, sizes


@dataclass(frozen=True)
class Reading:
    """The keys of a group that say how its parameters are read as matrices, rows being outputs.

    ``stacked``: dimension 0 counts matrices; otherwise a tensor of more than two dimensions is flattened to (out, rest).
    ``splits``: the sizes along the output dimension of matrices that were fused into one.
    ``transposed``: stored (in, out).
    """

    stacked: bool = False
    splits: tuple[int, ...] = ()
    transposed: bool = False

    def keys(self) -> dict[str, Any]:
        """The group keys that differ from their defaults."""
        return {name: value for name, value in vars(self).items() if value}

    def outputs(self, shape: tuple[int, ...]) -> int:
        """The size of the output dimension."""
        first, *others = shape[1:] if self.stacked else shape
        return prod(others) if self.transposed else first

    def describe(self, shape: tuple[int, ...]) -> str:
        """In words, for the table."""
        said = ["stacked"] if self.stacked else ["flattened"] if len(shape) > 2 else []
        if len(self.splits) > 3 and len(set(self.splits)) == 1:
            said.append(f"split {len(self.splits)} × {self.splits[0]}")
        elif self.splits:
            said.append(f"split {'+'.join(map(str, self.splits))}")
        if self.transposed:
            said.append("transposed")
        return ", ".join(said) or "matrix"


PLAIN = Reading()


def fused(node: Node) -> tuple[tuple[int, ...], str]:
    """Where a Linear's outputs are cut, and what for: q, k and v of an attention, or gate and up of an MLP."""
    if node.parent is None:
        return (), ""
    parent, (outputs, inputs) = node.parent, sizes(node)
    siblings = [size for child in parent.children if child is not node and (size := sizes(child))]
    if is_attention(parent.module):
        return qkv(parent.module, outputs, inputs, siblings)
    return gate_up(outputs, inputs, siblings)


def gate_up(outputs: int, inputs: int, siblings: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], str]:
    """The cut of a fused gate and up projection: a sibling (outputs, inputs) leads one half back, and none reads both."""
    half = outputs // 2
    if outputs % 2 == 0 and (inputs, half) in siblings and all(read != outputs for _, read in siblings):
        return (half, half), "gate and up of a gated MLP in one"
    return (), ""


_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "n_experts", "moe_num_experts")


def experts_of(node: Node) -> set[int]:
    """The numbers of experts that a module and the one around it give, or have in a list."""
    around = [n for n in (node, node.parent) if n is not None and not is_attention(n.module)]
    numbers = {number(n.module, (name,)) for n in around for name in _EXPERTS}
    lists = [child for n in around for child in n.children if isinstance(child.module, nn.ModuleList)]
    numbers |= {len(experts.children) for experts in lists}
    return {n for n in numbers if n is not None and n > 1}


def expert_splits(node: Node, parameter: Tensor, transposed: bool) -> tuple[tuple[int, ...], str]:
    """The cut of each matrix of an expert stack, as ``gate_up`` finds it among the module's other stacks."""
    shapes = [
        oriented(p, transposed) for p in node.module.parameters(recurse=False) if p.ndim == 3 and p is not parameter
    ]
    splits, reason = gate_up(*oriented(parameter, transposed), shapes)
    if splits and not getattr(node.module, "is_concatenated", True):
        return (), "gate and up in one, interleaved: no cut separates them"
    return splits, reason


def oriented(parameter: Tensor, transposed: bool) -> tuple[int, int]:
    """(outputs, inputs) of a matrix, or of each of a stack."""
    first, second = parameter.shape[-2:]
    return (second, first) if transposed else (first, second)
