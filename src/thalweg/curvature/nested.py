"""Tensors in nested containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import Tensor


def tensors(x: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and mappings, in order."""
    if isinstance(x, Tensor):
        yield x
    if isinstance(x, Mapping):
        x = list(cast("Mapping[Any, Any]", x).values())
    for part in cast("list[Any]", x) if isinstance(x, tuple | list) else ():
        yield from tensors(part)
