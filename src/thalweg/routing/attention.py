"""What an attention module tells of itself: its heads, and how q, k and v lie in one Linear."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

# They store q, k and v of one head, or of one group of heads that share k and v, side by side: with more than one group no
# cut into three runs separates them.
INTERLEAVED = frozenset(
    (
        *("BloomAttention", "FalconAttention", "GPTBigCodeAttention", "GPTNeoXAttention", "GPTNeoXJapaneseAttention"),
        *("CodeGenAttention", "PersimmonAttention", "MiniMaxLightningAttention"),
    )
)
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead")
_HEAD_SIZES = ("head_dim", "attention_head_size", "head_size", "key_value_proj_dim", "d_head")
_GROUPS = ("num_key_value_heads", "num_kv_heads", "kv_heads", "n_kv_heads", "n_kv_head")


def is_attention(module: nn.Module) -> bool:
    """Whether it knows how many heads it has, or how wide one is."""
    return number(module, _HEADS) is not None or number(module, _HEAD_SIZES) is not None


def heads_of(module: nn.Module) -> int | None:
    """The number of heads that an attention, or its config, gives."""
    return _own_or_config(module, _HEADS)


def qkv(
    module: nn.Module, outputs: int, inputs: int, siblings: Sequence[tuple[int, ...]]
) -> tuple[tuple[int, ...], str]:
    """Where the outputs of one Linear of an attention are cut, and what for; nothing for one that is not fused.

    Args:
        module: the attention.
        outputs: of the Linear.
        inputs: of the Linear.
        siblings: (outputs, inputs) of the attention's other Linears.
    """
    heads = heads_of(module)
    if heads is None:
        return (), ""
    head = number(module, _HEAD_SIZES) or inputs // heads
    width, groups = heads * head, _own_or_config(module, _GROUPS) or heads
    has_projection = not siblings or any(read == width for _, read in siblings)
    # Falcon and GPT-BigCode keep a number of groups that they may not use, so any that accounts for the outputs is it.
    kv = next((n for n in (groups, heads, 1) if outputs == width + 2 * n * head), None)
    if kv is not None and has_projection:
        if kv > 1 and INTERLEAVED & {cls.__name__ for cls in type(module).__mro__}:
            return (), "q, k and v in one, interleaved head by head: no cut separates them"
        return (width, kv * head, kv * head), "q, k and v in one"
    if outputs == 2 * width and groups == heads and len(siblings) == 2:  # beside q and the projection
        return (width, width), "k and v in one"
    return (), ""


def number(owner: Any, names: Iterable[str]) -> int | None:
    """The first of these attributes that is a whole number."""
    found = (_attribute(owner, name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool)), None)


def _own_or_config(module: nn.Module, names: Iterable[str]) -> int | None:
    return number(module, names) or number(getattr(module, "config", None), names)


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except RuntimeError:  # a config of transformers whose layers differ in it
        return None
