"""What parameters are called: by their names where ``named_parameters()`` gave them, by their place otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor

from thalweg.core.rule import Group

_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))


def without_wrappers(name: str) -> str:
    """A parameter's name without what DDP, torch.compile, FSDP and checkpointing put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def named(params: Any) -> list[tuple[str, Tensor]]:
    """The tensors of a group's ``params`` as they may be given, each with what to call it."""
    listed: list[Any] = [params] if isinstance(params, Tensor) else list(params)
    given = [
        cast("tuple[Any, ...]", e) if isinstance(e, tuple) else (f"parameter {i}", e) for i, e in enumerate(listed)
    ]
    return [(str(name), p) for name, *rest in given for p in rest if isinstance(p, Tensor)]


def describe(groups: Sequence[Group], group: int, position: int) -> str:
    """A parameter in an error message."""
    if "param_names" in groups[group]:
        return repr(groups[group]["param_names"][position])
    return f"parameter {position} of group {group}"
