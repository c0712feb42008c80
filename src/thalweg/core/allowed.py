"""What values a hyperparameter or option may take, and the errors that say so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import Tensor


class Allowed(Protocol):
    """A set of values; ``check`` raises for any other, naming it as ``what``."""

    def check(self, what: str, value: Any) -> None:
        """Raise TypeError for a value of the wrong kind, ValueError for one outside."""


@dataclass(frozen=True)
class Range:
    """Finite numbers from ``low`` to ``high``, as Python numbers or 0-D tensors."""

    low: float
    high: float = math.inf
    closed: bool = False  # whether ``high`` itself is allowed
    whole: bool = False

    def check(self, what: str, value: Any) -> None:
        """Raise unless ``value`` is in the range.  A tensor on an accelerator is not read: that would wait for the device."""
        if isinstance(value, Tensor):
            if value.ndim != 0:
                raise ValueError(f"{what} has shape {tuple(value.shape)}; as a tensor it must be 0-D.")
            if value.device.type != "cpu":
                return
            value = value.item()
        kind, noun = (int, "a whole number") if self.whole else (int | float, "a number (int, float or 0-D tensor)")
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{what}={value!r} must be {noun}.")
        inside = self.low <= value < self.high or (self.closed and value == self.high)
        if not (inside and math.isfinite(value)):
            raise ValueError(f"{what}={value!r} is out of range; allowed is {self}.")

    def __str__(self) -> str:
        return f"{self.low:g} ≤ x {'≤' if self.closed else '<'} {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    def check(self, what: str, value: Any) -> None:
        """Raise unless ``value`` is one of them; 1 is not True."""
        if not any(type(value) is type(v) and value == v for v in self.values):
            raise ValueError(f"{what}={value!r} is unknown; choose one of {', '.join(map(repr, self.values))}.")


@dataclass(frozen=True)
class Pair:
    """Two numbers, each in its range."""

    first: Range
    second: Range

    def check(self, what: str, value: Any) -> None:
        """Raise unless ``value`` is a tuple or list of two allowed numbers."""
        if not isinstance(value, tuple | list) or len(value) != 2:  # pyright: ignore[reportUnknownArgumentType]
            raise ValueError(f"{what}={value!r} must be 2 numbers.")
        self.first.check(f"{what}[0]", value[0])
        self.second.check(f"{what}[1]", value[1])


@dataclass(frozen=True)
class Wholes:
    """Whole numbers above zero, any number of them."""

    def check(self, what: str, value: Any) -> None:
        """Raise unless ``value`` is a tuple or list of them."""
        if not isinstance(value, tuple | list) or not all(type(n) is int and n > 0 for n in cast("list[Any]", value)):
            raise ValueError(f"{what}={value!r} must be a tuple of whole numbers above zero.")


@dataclass(frozen=True)
class Maybe:
    """None, or what another set allows."""

    other: Range

    def check(self, what: str, value: Any) -> None:
        """Raise unless ``value`` is None or one of them."""
        if value is not None:
            self.other.check(what, value)


nonnegative = Range(0.0)
fraction = Range(0.0, 1.0)
portion = Range(0.0, 1.0, closed=True)
finite = Range(-math.inf)
fractions = Pair(fraction, fraction)
flag = Choice((True, False))
