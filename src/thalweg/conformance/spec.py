"""What a rule is held to: the forms it is run in, and the oracle that it must equal in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Spec:
    """``thalweg.create(name, params, lr=lr, **kwargs)`` must take the same steps as ``oracle(params, lr=lr, **theirs)``.

    A rule's first spec is its plain form: no keywords but what it cannot do without.
    """

    name: str
    oracle: Callable[..., torch.optim.Optimizer]
    lr: float
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    theirs: dict[str, Any] | None = None  # the oracle's keywords, where they differ
    float32: float = 1e-6  # allowed relative error there; more for forms that jump, or divide by what may be near zero
    dims: int = 0  # the fewest dimensions that it takes

    def takes(self, shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The shapes that it is for."""
        return [shape for shape in shapes if len(shape) >= self.dims]

    @property
    def id(self) -> str:
        """The name and the keywords that are not default."""
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.kwargs.items())])

    @property
    def oracle_kwargs(self) -> dict[str, Any]:
        """The oracle's keywords."""
        return self.kwargs if self.theirs is None else self.theirs

    @property
    def oracle_name(self) -> str:
        """The oracle with the version of the library it is from; a class of the spec's own is a loop over the equation."""
        library = self.oracle.__module__.partition(".")[0]
        if library == "thalweg":
            return f"{self.oracle.__name__}, a plain loop"
        return f"{library} {version(library)} {self.oracle.__name__}"
