"""What lowers a learning rate: something measured now and then, and remembered in between."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from thalweg.control.probe import Along, Probe


@dataclass
class Held:
    """What every bound remembers.

    Attributes:
        next: the step of the next measurement.
        agreement: average of how near the loss function's slope is to the one that the gradients in the parameters foretell.
        sharpness, residual: of the last measurement, the residual included in the sharpness; NaN where it measures none.
    """

    next: int = 0
    agreement: float = 1.0
    sharpness: float = math.nan
    residual: float = math.nan

    def compare(self, seen: float, foretold: float) -> None:
        """Take another slope into the agreement: 1 if equal, −1 if opposite."""
        if foretold > 0:
            r = seen / foretold
            self.agreement = 0.95 * self.agreement + 0.05 * max(min(r, 1 / r) if r > 0 else r, -1.0)


H = TypeVar("H", bound=Held)


class Bound(ABC, Generic[H]):
    """A bound on the learning rate.

    Attributes:
        name: in ``Decision.bounds``.
        held: what it remembers.
    """

    name: ClassVar[str]
    held: H

    @abstractmethod
    def measure(self, step: int, asked: float, allowed: float, probe: Probe) -> Along:
        """Measure; ``allowed`` is what was allowed last, NaN at first.  FloatingPointError where a number is not finite."""

    @abstractmethod
    def value(self, step: int, asked: float, norm: Callable[[], float]) -> float:
        """The bound at a step, ``norm()`` the norm of its gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Numbers."""
        return dict(vars(self.held))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.held = type(self.held)(**state)
