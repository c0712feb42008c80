"""The governed mode: the learning rate asked for is a ceiling, lowered to what the loss bears."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from thalweg.control.bound import Bound
from thalweg.control.decision import Decision
from thalweg.control.probe import NOTHING, Form, Probe, quotient
from thalweg.core.allowed import Choice, Range, fraction

POSITIVE = Range(1e-12)
COUNT = Range(1, whole=True)
MEMORY = 0.9  # weight of the past in the average norm of the gradients, a step
LEAST = 1e-6  # part of the first learning rate that is always used: from there it can rise again

Which = Literal["auto", "sharpness", "direction"]

FOREIGN = (
    "the loss of loss_fn does not change along the step as the gradients in the parameters say: loss_fn must return the loss"
    " that backward() was called for, the same batch, factor and mode, or the bound is that of another function"
)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """``η = min(asked, bound·min(1, ‖g‖ₐᵥ/‖g‖), 1.05 η₋)``: the constants.

    Rules that do not divide their steps, as SGD, are bounded by the sharpness: ``margin·threshold/λ̂``, see
    ``SharpnessBound``.  Those that divide, as AdamW, bear the curvature of another matrix, and are bounded by the lowest point
    of the loss along their step: ``σ n/d``, see ``DirectionBound``.  Between measurements curvature is taken to grow with the
    gradient, as under (L₀, L₁)-smoothness (arXiv:1905.11881): one larger than of late lowers the bound at once, and the
    learning rate recovers no faster than the slew.

    Values are hypotheses tried on six small tasks, unless a source is named.

    Attributes:
        bound: ``"sharpness"``, ``"direction"``, or ``"auto"``, which asks the rule.
        threshold: the stable λη: 2 for mini-batches with momentum or without (arXiv:2412.20553); 2(1 + β) for full batches
            with Polyak's β (arXiv:2103.00065).
        margin: part of it that is used.
        products: with the Hessian, for λ̂; fewer leave a larger residual, which is added to it.  Up to three more are made where
            it fell by more than half.
        cap_every: steps from one λ̂ to the next; twice as many where half of the bound is asked for, fewer where the gradients
            grow.
        budget: of measurements that growing gradients call for, in gradient-equivalents a step.
        sigma: σ; 1 is the lowest point for one batch; at 2 its loss is as before, and that of other batches higher.
        every: steps from one look along the step to the next, at most; a quarter of the steps so far, if that is less.
        average: weight of the past in n and d, at each look.
        form: ``"values"`` sees the loss at 0 and ±η along u: 1 gradient-equivalent, and the kinks of ReLU count;
            ``"product"`` by gradient and Hessian-vector product: 3⅓.
        slew: factor by which the learning rate may grow from step to step where a bound has held it; it falls at once.
        cold: part of the bound at step 0 with which a run begins: networks are flat there, and sharpen within tens of steps.
            A run that asks for less is not touched.
    """

    bound: Which = "auto"
    threshold: float = 2.0
    margin: float = 0.7
    products: int = 2
    cap_every: int = 80
    budget: float = 0.1
    sigma: float = 1.0
    every: int = 12
    average: float = 0.9
    form: Form = "values"
    slew: float = 1.05
    cold: float = 0.05

    def __post_init__(self) -> None:
        Choice(get_args(Which)).check("Edge: bound", self.bound)
        for name in ("threshold", "margin", "sigma", "cold", "budget"):
            POSITIVE.check(f"Edge: {name}", getattr(self, name))
        for name in ("every", "cap_every", "products"):
            COUNT.check(f"Edge: {name}", getattr(self, name))
        Range(1.0).check("Edge: slew", self.slew)
        fraction.check("Edge: average", self.average)
        Choice(get_args(Form)).check("Edge: form", self.form)


class EdgePolicy:
    """One run under ``Edge``.

    Args:
        edge: the constants.
        bound: the bound.

    Attributes:
        allowed: the learning rate that bound and slew allow; NaN before the first step.
        least: what is used at least; NaN before the first step.
        norm: average norm of the gradients; NaN before the first step.
    """

    def __init__(self, edge: Edge, bound: Bound[Any]) -> None:
        self.edge, self.bound = edge, bound
        self.allowed = self.least = self.norm = math.nan

    @property
    def next_probe(self) -> int:
        """The step at which it measures next."""
        return self.bound.next_probe

    def decide(self, step: int, asked: float, probe: Probe | None, norm: Callable[[], float]) -> Decision:
        """The bound, approached no faster than the slew allows."""
        edge, seen, note = self.edge, NOTHING, ""
        if probe is not None:
            try:
                seen = self.bound.measure(step, asked, self.allowed, probe)
                note = FOREIGN if self.bound.held.agreement < self.bound.agrees else ""
            except FloatingPointError as error:
                note = f"{str(error).rstrip('.')}; the learning rate is halved until it succeeds"
                self.allowed = min(self.allowed, asked) / 2  # NaN stays
                self.bound.held.next = step + 1
        bound = self.bound.value * self.steadiness(norm())
        self.bound.watch(step, asked, self.norm)
        started = not math.isnan(self.allowed)
        slew = edge.slew * self.allowed if started else edge.cold * (bound if math.isfinite(bound) else asked)
        if started or not note:  # no step is made before something is known
            wanted = min(bound, slew)
            self.least = LEAST * (wanted or asked) if math.isnan(self.least) else self.least
            self.allowed = max(wanted, self.least)
        used = 0.0 if math.isnan(self.allowed) else min(asked, self.allowed)
        return Decision(
            step=step,
            asked=asked,
            used=used,
            active="schedule" if used == asked else self.bound.name if bound <= slew else "slew",
            bounds={self.bound.name: bound, "slew": slew},
            factors={} if used == asked else {"lr": used / asked},
            loss=seen.loss,
            slope=seen.slope,
            curvature=seen.curvature,
            sharpness=self.bound.held.sharpness,
            residual=self.bound.held.residual,
            ratio=used * self.bound.held.sharpness / edge.threshold,
            cost=float(probe.cost.gradient_equivalents) if probe else 0.0,
            note=note,
        )

    def steadiness(self, now: float) -> float:
        """``min(1, ‖g‖ₐᵥ/‖g‖)``, and take ‖g‖ into the average.  What is not finite says nothing."""
        if not math.isfinite(now):
            return 1.0
        average = self.norm if self.norm > 0 else now  # nothing is large beside gradients that were all 0
        self.norm = MEMORY * average + (1 - MEMORY) * now
        return min(1.0, quotient(average, now))

    def state_dict(self) -> dict[str, Any]:
        """Numbers."""
        return {
            "allowed": self.allowed,
            "least": self.least,
            "norm": self.norm,
            self.bound.name: self.bound.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.bound.load_state_dict(state[self.bound.name])
        self.allowed, self.least, self.norm = state["allowed"], state["least"], state["norm"]
