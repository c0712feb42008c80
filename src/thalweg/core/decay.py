"""Station 4: weight decay that acts on the parameter itself.  (L2 decay acts on the gradient: see gradient.py.)

Schedule-free averaging has more than one sequence, and all move by the decay of one: there it is part of the update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from thalweg.core import average, parts
from thalweg.core.gradient import weight_decay_acts
from thalweg.core.rule import Group
from thalweg.core.sharding import Reach
from thalweg.core.station import Station, station


def itself(p: Tensor, u: Tensor) -> Tensor:
    """p: decay of all alike.  Decoupled weight decay (arXiv:1711.05101)."""
    return p


def agreeing(p: Tensor, u: Tensor) -> Tensor:
    """1[u·p ≥ 0] p: decay only where the update shrinks p too.  Cautious weight decay (arXiv:2510.12402)."""
    return (u * p >= 0).to(p.dtype) * p


def preconditioned(p: Tensor, u: Tensor, preconditioner: Tensor) -> Tensor:
    """R(qp), q the rule's preconditioner, R the RMS clip at 1: decay in the metric of the update."""
    return parts.rms_clipped(p * preconditioner)


@station("element")
def decoupled(p: Tensor, u: Tensor, h: dict[str, Any]) -> Tensor:
    """p ← (1 − ηλ)p, to the bit as in torch.  Decoupled weight decay (arXiv:1711.05101, Alg. 2)."""
    return p.mul_(1 - h["lr"] * h["weight_decay"])


def _subtracted(decay: Callable[..., Tensor], reach: Reach, *takes: str) -> Station:
    """p ← p − ηλ·decay(p)."""

    def subtract(p: Tensor, u: Tensor, h: dict[str, Any], **taken: Tensor) -> Tensor:
        return p.sub_(decay(p, u, **taken) * (h["lr"] * h["weight_decay"]))

    return station(reach, *takes)(subtract)


def _added(decay: Callable[..., Tensor], reach: Reach, *takes: str) -> Station:
    """u ← u + λ·decay(p)."""

    def add(u: Tensor, p: Tensor, h: dict[str, Any], **taken: Tensor) -> Tensor:
        return u + decay(p, u, **taken) * h["weight_decay"]

    return station(reach, *takes)(add)


ON_PARAMETER = {
    "decoupled": decoupled,
    "cautious": _subtracted(agreeing, "element"),
    "preconditioned": _subtracted(preconditioned, "tensor", "preconditioner"),
}
IN_UPDATE = {
    "decoupled": _added(itself, "element"),
    "cautious": _added(agreeing, "element"),
    "preconditioned": _added(preconditioned, "tensor", "preconditioner"),
}


def on_parameter(group: Group) -> tuple[Station, ...]:
    """The stations that decay the parameter before it moves."""
    return () if average.moves_all(group) else _asked(ON_PARAMETER, group)


def in_update(group: Group) -> tuple[Station, ...]:
    """The stations that add the decay to the update."""
    return _asked(IN_UPDATE, group) if average.moves_all(group) else ()


def _asked(stations: dict[str, Station], group: Group) -> tuple[Station, ...]:
    return (stations[group["decay"]],) if group["decay"] in stations and weight_decay_acts(group) else ()
