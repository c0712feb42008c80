"""Station 4: weight decay that acts on the parameter itself, as what it adds to the update.

(L2 decay acts on the gradient: see gradient.py.)
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thalweg.core import parts
from thalweg.core.gradient import weight_decay_acts
from thalweg.core.rule import Group
from thalweg.core.station import Station, station


@station("element")
def decoupled(u: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """u + λp.  Decoupled weight decay (arXiv:1711.05101, Alg. 2)."""
    return u + p * h["weight_decay"]


@station("element")
def cautious(u: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """u + λ 1[u·p ≥ 0] p: decay only where the update shrinks p too.  Cautious weight decay (arXiv:2510.12402)."""
    return u + (u * p >= 0).to(p.dtype) * p * h["weight_decay"]


@station("tensor", "preconditioner")
def preconditioned(u: Tensor, p: Tensor, h: dict[str, Any], *, preconditioner: Tensor) -> Tensor:
    """u + λ R(qp), q the rule's preconditioner, R the RMS clip at 1: decay in the metric of the update."""
    return u + parts.rms_clipped(p * preconditioner) * h["weight_decay"]


DECAYS = {"preconditioned": (preconditioned,), "decoupled": (decoupled,), "cautious": (cautious,), "l2": ()}


def stations(group: Group) -> tuple[Station, ...]:
    """The stations this group's options ask for."""
    return DECAYS[group["decay"]] if weight_decay_acts(group) else ()
