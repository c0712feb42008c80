"""How a parameter is read as matrices: where fused ones are cut, which dimension is the output, what is stacked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

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

# Attention that stores q, k and v of one head, or of one group of heads that share k and v, side by side: with more than
# one group no cut into three runs separates them.
INTERLEAVED = frozenset(
    (
        *("BloomAttention", "FalconAttention", "GPTBigCodeAttention", "GPTNeoXAttention", "GPTNeoXJapaneseAttention"),
        *("CodeGenAttention", "PersimmonAttention", "MiniMaxLightningAttention"),
    )
)
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead")
_HEAD_SIZES = ("head_dim", "attention_head_size", "head_size", "key_value_proj_dim", "d_head")
_GROUPS = ("num_key_value_heads", "num_kv_heads", "kv_heads", "n_kv_heads", "n_kv_head")


def fused(node: Node) -> tuple[tuple[int, ...], str]:
    """Where a Linear's outputs are cut, and what for: q, k and v of an attention, or gate and up of an MLP."""
    if node.parent is None:
        return (), ""
    parent, (outputs, inputs) = node.parent, sizes(node)
    if is_attention(parent.module):
        return _attention_splits(parent, outputs, inputs)
    siblings = [sizes(child) for child in parent.children if isinstance(child.module, nn.Linear) and child is not node]
    return gate_up(outputs, inputs, siblings)


def gate_up(outputs: int, inputs: int, siblings: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], str]:
    """The cut of a fused gate and up projection: a sibling (outputs, inputs) leads one half back, and none reads both."""
    half = outputs // 2
    if outputs % 2 == 0 and (inputs, half) in siblings and all(read != outputs for _, read in siblings):
        return (half, half), "gate and up of a gated MLP in one"
    return (), ""


def is_attention(module: nn.Module) -> bool:
    """Whether it knows how many heads it has, or how wide one is."""
    return _number(module, _HEADS) is not None or _number(module, _HEAD_SIZES) is not None


def heads_of(module: nn.Module) -> int | None:
    """The number of heads that an attention, or its config, gives."""
    return _number(module, _HEADS) or _number(getattr(module, "config", None), _HEADS)


def _attention_splits(attention: Node, outputs: int, inputs: int) -> tuple[tuple[int, ...], str]:
    heads = heads_of(attention.module)
    if heads is None:
        return (), ""
    head = _number(attention.module, _HEAD_SIZES) or inputs // heads
    groups = _groups(attention.module, heads)
    # Falcon and GPT-BigCode keep a number of groups that they may not use, so any that accounts for the outputs is it.
    for kv in dict.fromkeys((groups, heads, 1)):
        if outputs == (heads + 2 * kv) * head:
            if kv > 1 and INTERLEAVED & {cls.__name__ for cls in type(attention.module).__mro__}:
                return (), "q, k and v in one, interleaved head by head: no cut separates them"
            return (heads * head, kv * head, kv * head), "q, k and v in one"
    projections = sum(1 for child in attention.children if sizes(child))
    if projections == 3 and groups == heads and outputs == 2 * heads * head:
        return (heads * head, heads * head), "k and v in one"
    return (), ""


def _groups(attention: nn.Module, heads: int) -> int:
    return _number(attention, _GROUPS) or _number(getattr(attention, "config", None), _GROUPS) or heads


def _number(owner: Any, names: Iterable[str]) -> int | None:
    found = (_attribute(owner, name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool)), None)


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except RuntimeError:  # a config of transformers whose layers differ in it
        return None


_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts", "n_experts", "moe_num_experts")


def experts_of(node: Node) -> set[int]:
    """The numbers of experts that a module, the one around it and their configs give, or count in a list of them."""
    around = [n.module for n in (node, node.parent) if n is not None]
    owners = [*around, *(getattr(m, "config", None) for m in around)]
    numbers = {_number(owner, (name,)) for owner in owners for name in _EXPERTS}
    lists = node.parent.children if node.parent is not None else []
    numbers |= {len(n.children) for n in lists if isinstance(n.module, nn.ModuleList) and len(n.children) > 1}
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
