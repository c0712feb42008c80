"""What a policy is, and the record of what it decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from thalweg.control.probe import Probe

Factor: TypeAlias = float | tuple[float, ...]
"""What a hyperparameter is multiplied by: in all groups, or in each."""


@dataclass(frozen=True)
class GroupReading:
    """The loss along the move of one parameter group, ``L(w + fΔ) ≈ L − f·slope + ½f²·curvature`` at f times its learning rate.

    Attributes:
        lr: the learning rate of the move.
        slope: −gᵀΔ.
        curvature: ΔᵀHΔ.
        ppi: the parameter influence per parameter, ``slope²/(curvature·dim)``: twice what the best step along this move gains
            per parameter; 0 where the slope is 0, else NaN where the curvature is not positive.  arXiv:2501.06954
    """

    lr: float
    slope: float
    curvature: float
    ppi: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one step was decided to be.  Numbers that this step did not measure, and its policy does not hold, are NaN.

    Learning rates are those of the group with the largest; those of the others are in proportion.

    Attributes:
        step: how many steps were made before.
        asked: the learning rate in the groups, which is what the user or a scheduler put there.
        used: the learning rate of the step.
        active: which bound held: ``"schedule"`` where it is the learning rate asked for, ``"gradients"`` where these are not
            finite, and no step was made.
        bounds: the learning rate that each bound would allow.
        factors: by what each hyperparameter of the groups was multiplied for this step: a number for all, or one for each.
        loss: of the batch, where it was evaluated.
        slope: −gᵀu, how fast the loss falls along the base's update u per unit of learning rate.
        curvature: uᵀHu.
        sharpness: λ̂, the cautious value of the largest eigenvalue, as last measured; of L^½ H L^½ where groups have learning
            rates in proportions L.
        residual: how far from the Ritz value an eigenvalue may be; it is part of λ̂.
        ratio: of ``used`` to the learning rate at which λ̂ becomes unstable.
        cost: of the measurements of this step, in gradient-equivalents.
        note: what went wrong; "" if nothing did.
        groups: where each has a learning rate of its own, what was measured of them.
    """

    step: int
    asked: float
    used: float
    active: str
    bounds: Mapping[str, float] = field(default_factory=dict[str, float])
    factors: Mapping[str, Factor]
    loss: float = math.nan
    slope: float = math.nan
    curvature: float = math.nan
    sharpness: float = math.nan
    residual: float = math.nan
    ratio: float = math.nan
    cost: float = 0.0
    note: str = ""
    groups: tuple[GroupReading, ...] = ()


class Policy(Protocol):
    """Decides each step of an optimizer."""

    @property
    def next_probe(self) -> int:
        """The step at which it measures next."""
        ...

    def decide(self, step: int, asked: float, probe: Probe | None, norm: Callable[[], float]) -> Decision:
        """The decision for a step; ``probe`` is there from ``next_probe`` on, ``norm()`` is the norm of the gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that later decisions depend on: numbers."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        ...
