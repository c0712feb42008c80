"""CDAT: at every step the learning rate at which the loss along the step is lowest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from thalweg.control.decision import Decision
from thalweg.control.held import Held, Remembers
from thalweg.control.probe import NOTHING, Along, Form, Probe, quotient
from thalweg.core.allowed import Choice, Range, fraction, nonnegative


@dataclass(frozen=True, kw_only=True)
class CDAT:
    """``η = σ max(−gᵀu, 0)/(|uᵀHu| + ε)``, u the base's update per unit of learning rate.  arXiv:2407.06183

    It has no memory but its averages, and no bound but the learning rate asked for, which the paper does not have: ask for a
    large one to be without.

    Attributes:
        sigma: σ; 2 is the edge of stability, 1 the greedy choice.
        eps: ε.
        average: weight of the past in numerator and denominator; 0 is without, for full batches.
        every: steps from one look to the next.
        form: as in ``Edge``.
    """

    sigma: float = 1.0
    eps: float = 1e-12
    average: float = 0.0
    every: int = 1
    form: Form = "product"

    def __post_init__(self) -> None:
        Range(1e-12).check("CDAT: sigma", self.sigma)
        nonnegative.check("CDAT: eps", self.eps)
        fraction.check("CDAT: average", self.average)
        Range(1, whole=True).check("CDAT: every", self.every)
        Choice(get_args(Form)).check("CDAT: form", self.form)

    def begin(self) -> CDATPolicy:
        """The policy of one run."""
        return CDATPolicy(self)


@dataclass
class Quotient(Held):
    """Averages of numerator and denominator, the learning rate they make, and the step of the next look."""

    slope: float = 0.0
    curvature: float = 0.0
    lr: float = math.inf


class CDATPolicy(Remembers[Quotient]):
    """One run under ``CDAT``."""

    def __init__(self, cdat: CDAT) -> None:
        self.cdat, self.held = cdat, Quotient()

    def decide(self, step: int, asked: float, probe: Probe | None, norm: Callable[[], float]) -> Decision:
        """The quotient; a measurement that fails leaves it as it was."""
        held, cdat, note, seen = self.held, self.cdat, "", NOTHING
        if probe is not None:
            held.next = step + cdat.every
            try:
                seen = self.looked(probe, min(asked, held.lr) or asked)
                a = cdat.average
                held.slope = a * held.slope + (1 - a) * max(seen.slope, 0.0)
                held.curvature = a * held.curvature + (1 - a) * abs(seen.curvature)
                held.lr = cdat.sigma * quotient(held.slope, held.curvature + cdat.eps)
            except FloatingPointError as error:
                note = f"{str(error).rstrip('.')}; the last values stay"
        used = min(asked, held.lr)
        return Decision(
            step=step,
            asked=asked,
            used=used,
            active="schedule" if used == asked else "direction",
            bounds={"direction": held.lr},
            factors={} if used == asked else {"lr": used / asked},
            cost=float(probe.cost.gradient_equivalents) if probe else 0.0,
            loss=seen.loss,
            slope=seen.slope,
            curvature=seen.curvature,
            note=note,
        )

    def looked(self, probe: Probe, h: float) -> Along:
        """The loss along a step of h."""
        seen = probe.along(probe.update(h), h, self.cdat.form)
        if not seen.finite:
            raise FloatingPointError(f"the loss along the step is not finite at a learning rate of {h:g}")
        return seen
