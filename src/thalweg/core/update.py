"""Station 3: what is done to the update after the rule.  ``u`` is the update, ``g`` the gradient as the model gave it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thalweg.core import parts
from thalweg.core.rule import Group
from thalweg.core.station import Station, station


@station("tensor")
def cautious(u: Tensor, g: Tensor, h: dict[str, Any]) -> Tensor:
    """u · k / max(mean(k), 1e-3), k = 1[u·g > 0]: move only where update and gradient agree (arXiv:2411.16085, Alg. 1)."""
    return u * parts.agreement(u, g)


def stations(group: Group) -> tuple[Station, ...]:
    """The stations this group's options ask for."""
    return (cautious,) if group["cautious"] else ()
