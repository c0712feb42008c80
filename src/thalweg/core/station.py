"""A station: one optional operation of the step, and how far it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from thalweg.core import sharding
from thalweg.core.rule import Recurrence, State, tensors_of
from thalweg.core.sharding import Reach
from thalweg.core.tensorlist import TensorList


@dataclass(frozen=True)
class Station:
    """``x = station(x, y, h)``: ``y`` is what ``x`` is read against, ``h`` holds the hyperparameters by name.

    One that reaches over a tensor (a mean, a norm) is written for one tensor and applied to each member of a list.  It may
    keep ``state`` of its own from step to step, and take the rule's ``preconditioner``: both come by keyword.
    """

    apply: Callable[..., Tensor]
    reach: Reach
    state: tuple[tuple[str, State | Recurrence], ...] = ()
    takes: tuple[str, ...] = ()

    def __call__(self, x: Any, y: Any, h: dict[str, Any], tensors: dict[str, Any]) -> Any:
        """Apply to a tensor, to every member of a TensorList, or to a sharded parameter; ``tensors`` has what it takes."""
        own = {name: tensors[name] for name in (*tensors_of(dict(self.state)), *self.takes)}
        if self.reach != "element" and isinstance(x, TensorList):
            return x.map(self.apply, y, h, **own)
        return sharding.apply(self.reach, self.apply, x, y, h, **own)

    def __repr__(self) -> str:
        return self.apply.__name__


def station(reach: Reach, *takes: str, **state: State | Recurrence) -> Callable[[Callable[..., Tensor]], Station]:
    """Declare a station, its reach, what it takes of the rule and the state it keeps."""
    return lambda apply: Station(apply, reach, tuple(state.items()), takes)
