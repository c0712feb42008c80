"""One optimizer whose groups follow different rules."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, ClassVar

import torch

from thalweg.core.allowed import Choice
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import DEFAULTS
from thalweg.core.rule import Group
from thalweg.registry import OPTIMIZERS

CLASSES = {name: cls for name, cls in OPTIMIZERS.items() if issubclass(cls, Optimizer)}
"""The optimizers that a group can follow: those whose step is a rule."""


class Mixed(Optimizer):
    """One optimizer for parameter groups of different rules: one ``param_groups``, one state dict, one ``step``.

    ``Mixed([{"params": matrices, "optimizer": "muon", "lr": 0.02}, {"params": rest, "optimizer": "adamw", "lr": 3e-4}])``

    A group is what the optimizer that it names would make of it: ``thalweg.create(optimizer, params, …)``, with the same
    defaults, options and errors.  Schedulers, gradient scalers, hooks and checkpoints see an ordinary optimizer.  The global
    norm, and whether all gradients are finite, are of all groups together.

    Args:
        groups: dicts with ``"params"``, the name of an ``"optimizer"`` and any of its arguments; ``thalweg.route(model)``
            makes them.

    Raises:
        TypeError: ``groups`` are parameters, not groups of them.
        ValueError: an optimizer that is unknown, or evaluates gradients itself.
    """

    option_defaults: ClassVar[dict[str, Any]] = {}  # every group brings its own

    def __init__(self, groups: Iterable[Group]) -> None:
        listed: list[Any] = list(groups)
        if not all(isinstance(group, dict) for group in listed):
            raise TypeError(
                'Mixed: needs groups, [{"params": …, "optimizer": "muon"}, …], not parameters; thalweg.route(model) makes them.'
            )
        super().__init__(listed, {}, {})

    def class_of(self, group: Group) -> type[Optimizer]:
        """The class that a group names."""
        Choice(tuple(CLASSES)).check("Mixed: optimizer", group.get("optimizer"))
        return CLASSES[group["optimizer"]]

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters under the rule of the optimizer that the group names; nothing is added if anything is not allowed."""
        cls = self.class_of(param_group)
        theirs = {n: v for n, v in param_group.items() if n not in ("optimizer", "params")}
        arguments = {*inspect.signature(cls).parameters, *DEFAULTS}
        params = {"params": param_group["params"], **{n: v for n, v in theirs.items() if n not in arguments}}
        alone = cls([params], **{n: v for n, v in theirs.items() if n in arguments})
        (filled,) = alone.param_groups
        for name, value in cls.evaluates_itself.items():
            if filled[name] == value:
                raise ValueError(
                    f"Mixed: {name}={value!r} of {cls.__name__} evaluates gradients itself; that takes an optimizer of its own."
                )
        names = filled.pop("param_names", None)
        filled["params"] = filled["params"] if names is None else list(zip(names, filled["params"], strict=True))
        torch.optim.Optimizer.add_param_group(self, {"optimizer": param_group["optimizer"], **filled})
        self._forget()
