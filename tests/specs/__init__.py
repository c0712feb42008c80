"""One spec a rule: the forms it is tested in, and the oracle it must equal.  Every test over rules reads this table."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Spec:
    """``thalweg.create(name, params, lr=lr, **kwargs)`` must take the same steps as ``oracle(params, lr=lr, **theirs)``."""

    name: str
    oracle: Callable[..., torch.optim.Optimizer]
    lr: float
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    theirs: dict[str, Any] | None = None  # the oracle's keywords, where they differ

    @property
    def id(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.kwargs.items())])

    @property
    def oracle_kwargs(self) -> dict[str, Any]:
        return self.kwargs if self.theirs is None else self.theirs


SPECS: list[Spec] = [
    spec
    for module in pkgutil.iter_modules(__path__)
    for spec in importlib.import_module(f"{__name__}.{module.name}").SPECS
]
