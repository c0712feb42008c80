"""What lowers a learning rate: something measured now and then, and remembered in between."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from thalweg.control.held import Held, Remembers
from thalweg.control.probe import Along, Probe


@dataclass
class Seen(Held):
    """What every bound remembers.

    Attributes:
        agreement: how near the loss function's gradients seem to be to those in the parameters: 1 is equal, −1 opposite.
        sharpness, residual: of the last measurement, the residual included in the sharpness; NaN where it measures none.
    """

    agreement: float = 1.0
    sharpness: float = math.nan
    residual: float = math.nan


S = TypeVar("S", bound=Seen)


class Bound(Remembers[S], ABC):
    """A bound on the learning rate.

    Attributes:
        name: in ``Decision.bounds``.
        agrees: the agreement below which the loss function is said to be another.
    """

    name: ClassVar[str]
    agrees: ClassVar[float]

    @abstractmethod
    def measure(self, step: int, asked: float, allowed: float, probe: Probe) -> Along:
        """Measure; ``allowed`` is what was allowed last, NaN at first.  FloatingPointError where a number is not finite."""

    @property
    @abstractmethod
    def value(self) -> float:
        """The bound, as last measured."""

    @abstractmethod
    def watch(self, step: int, asked: float, norm: float) -> None:
        """See the average norm of the gradients at a step, which may call for another measurement."""
