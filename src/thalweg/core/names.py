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
    pairs = [cast("tuple[str, Any]", e) if isinstance(e, tuple) else (None, e) for e in listed]
    called = [(f"parameter {i}" if name is None else repr(name), p) for i, (name, p) in enumerate(pairs)]
    return [(name, p) for name, p in called if isinstance(p, Tensor)]


def describe(groups: Sequence[Group], group: int, position: int) -> str:
    """A parameter in an error message."""
    if "param_names" in groups[group]:
        return repr(groups[group]["param_names"][position])
    return f"parameter {position} of group {group}"
