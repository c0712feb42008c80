"""The rule that each parameter group of an optimizer follows: of this package's optimizers, of torch's, and wrapped ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from thalweg.core.optimizer import Optimizer
from thalweg.core.rule import Group, Rule

SECANT = frozenset(("LBFGS", "NewtonCG"))  # steps −ηB⁻¹g with a matrix B of their own


@dataclass(frozen=True, eq=False)
class Followed:
    """A parameter group, and the rule that it follows.

    Attributes:
        cls: the class that declares the rule: for torch's optimizers ours of the same name; None for ``SECANT``.
        group: the hyperparameters, complete, 0-D tensors read as numbers.
        params: its parameters.
        state: of each parameter that has made a step.
        name: of the optimizer's class, for messages.
    """

    cls: type[Optimizer] | None
    group: Group
    params: list[Tensor]
    state: dict[Tensor, dict[str, Any]]
    name: str

    @property
    def rule(self) -> Rule | None:
        """The rule; None for ``SECANT``."""
        return self.cls and self.cls.variant_of(self.group)


def followed(optimizer: torch.optim.Optimizer) -> list[Followed]:
    """One for each parameter group.

    Raises:
        ValueError: a class whose rule is not known.
    """
    inner = unwrapped(optimizer)
    name = type(inner).__name__
    found: list[Followed] = []
    for group in inner.param_groups:
        cls = class_of(inner, group)
        ours = {} if cls is None or isinstance(inner, Optimizer) else defaults(cls)
        numbers = ours | {n: as_number(v) for n, v in group.items() if n != "params"}
        found.append(Followed(cls, numbers, group["params"], cast(Any, inner.state), name))
    return found


def unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside those of Accelerate and Lightning, which hold it as ``optimizer``."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


def class_of(optimizer: torch.optim.Optimizer, group: Group) -> type[Optimizer] | None:
    """The class that declares the rule of a group."""
    if isinstance(optimizer, Optimizer):
        return optimizer.class_of(group)
    cls = type(optimizer)
    if any(c.__name__ in SECANT for c in cls.__mro__):
        return None
    ours = known()
    if f"{cls.__module__}.".startswith("torch.optim.") and cls.__name__ in ours:
        return ours[cls.__name__]
    raise ValueError(
        f"optimizer is {cls.__module__}.{cls.__name__}, whose rule is not known; known are thalweg's optimizers and torch's"
        f" {', '.join(sorted(n for n in {*ours, 'LBFGS'} if hasattr(torch.optim, n)))}."
    )


def known() -> dict[str, type[Optimizer]]:
    """This package's optimizers by name, of those whose step is a rule."""
    return {c.__name__: c for c in declared(Optimizer) if c.__module__.startswith("thalweg.rules.")}


def declared(cls: type[Optimizer]) -> Iterator[type[Optimizer]]:
    """All subclasses that are loaded."""
    for c in cls.__subclasses__():
        yield c
        yield from declared(c)


def defaults(cls: type[Optimizer]) -> Group:
    """A group of this class where nothing is said, for what groups of torch's do not have."""
    (group,) = cast(Any, cls)([torch.empty(1, 2)]).param_groups
    return {n: v for n, v in group.items() if n != "params"}


def as_number(value: Any) -> Any:
    """0-D tensors as numbers, in pairs too."""
    if isinstance(value, tuple | list):
        return tuple(map(as_number, cast("tuple[Any, ...]", value)))
    return value.item() if isinstance(value, Tensor) else value
