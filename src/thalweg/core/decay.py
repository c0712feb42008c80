"""Station 4: weight decay that acts on the parameter itself.  (L2 decay acts on the gradient: see gradient.py.)"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thalweg.core import parts
from thalweg.core.gradient import weight_decay_acts
from thalweg.core.rule import Group
from thalweg.core.station import Station, station


@station("element")
def decoupled(p: Tensor, u: Tensor, h: dict[str, Any]) -> Tensor:
    """p ← (1 − ηλ)p.  Decoupled weight decay (arXiv:1711.05101, Alg. 2)."""
    return p.mul_(1 - h["lr"] * h["weight_decay"])


@station("element")
def cautious(p: Tensor, u: Tensor, h: dict[str, Any]) -> Tensor:
    """p ← p − ηλ 1[u·p ≥ 0] p: decay only where the update shrinks p too.  Cautious weight decay (arXiv:2510.12402)."""
    return p.sub_((u * p >= 0).to(p.dtype) * p * (h["lr"] * h["weight_decay"]))


@station("tensor", "preconditioner")
def preconditioned(p: Tensor, u: Tensor, h: dict[str, Any], *, preconditioner: Tensor) -> Tensor:
    """p ← p − ηλ R(qp), q the rule's preconditioner, R the RMS clip at 1: decay in the metric of the update."""
    return p.sub_(parts.rms_clipped(p * preconditioner) * (h["lr"] * h["weight_decay"]))


DECAYS = {"preconditioned": (preconditioned,), "decoupled": (decoupled,), "cautious": (cautious,), "l2": ()}


def stations(group: Group) -> tuple[Station, ...]:
    """The stations this group's options ask for."""
    return DECAYS[group["decay"]] if weight_decay_acts(group) else ()
