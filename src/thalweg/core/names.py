"""What parameters are called: by their names where ``named_parameters()`` gave them, by their place otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.core.rule import Group

_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))


def without_wrappers(name: str) -> str:
    """A parameter's name without what DDP, torch.compile, FSDP and checkpointing put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def describe(groups: Sequence[Group], group: int, position: int) -> str:
    """A parameter in an error message."""
    if "param_names" in groups[group]:
        return repr(groups[group]["param_names"][position])
    return f"parameter {position} of group {group}"
