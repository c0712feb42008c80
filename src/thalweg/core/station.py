"""A station: one optional operation of the step, and how far it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from thalweg.core import sharding
from thalweg.core.sharding import Reach
from thalweg.core.tensorlist import TensorList


@dataclass(frozen=True)
class Station:
    """``x = station(x, y, h)``: ``y`` is what ``x`` is read against, ``h`` holds the hyperparameters by name.

    One that reaches over a tensor (a mean, a norm) is written for one tensor and applied to each member of a list.
    """

    apply: Callable[[Tensor, Tensor, dict[str, Any]], Tensor]
    reach: Reach

    def __call__(self, x: Any, y: Any, h: dict[str, Any]) -> Any:
        """Apply to a tensor or to every member of a TensorList."""
        if self.reach == "tensor" and isinstance(x, TensorList):
            return x.map(self.apply, y, h)
        return sharding.apply(self.reach, self.apply, x, y, h)

    def __repr__(self) -> str:
        return self.apply.__name__


def station(reach: Reach) -> Callable[[Callable[[Tensor, Tensor, dict[str, Any]], Tensor]], Station]:
    """Declare a station and its reach."""
    return lambda apply: Station(apply, reach)


def row_dims(x: Tensor) -> tuple[int, ...]:
    """The dimensions of one row: 1.. of a matrix or kernel (one output unit), all of a vector."""
    return tuple(range(1, x.ndim)) or tuple(range(x.ndim))


def row_size(x: Tensor) -> int:
    """Elements in one row."""
    return x.numel() // x.shape[0] if x.ndim > 1 else x.numel()
