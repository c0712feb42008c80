"""What is remembered from one measurement to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar


@dataclass
class Held:
    """What every policy and bound remembers.

    Attributes:
        next: the step of the next measurement.
    """

    next: int = 0


H = TypeVar("H", bound=Held)


class Remembers(Generic[H]):
    """Something that goes on, bit for bit, from what it remembers alone.

    Attributes:
        held: what it remembers: numbers.
    """

    held: H

    @property
    def next_probe(self) -> int:
        """The step at which it measures next."""
        return self.held.next

    def state_dict(self) -> dict[str, Any]:
        """All that later decisions depend on: numbers."""
        return dict(vars(self.held))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.held = type(self.held)(**state)
