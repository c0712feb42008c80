"""The governed mode: the learning rate asked for is a ceiling, lowered to what the loss bears along the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from torch import Tensor

from thalweg.control.decision import Decision
from thalweg.control.probe import NOTHING, Along, Form, Probe, quotient
from thalweg.core.allowed import Choice, Range, fraction

POSITIVE = Range(1e-12)
COUNT = Range(1, whole=True)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """``η = min(asked, η_dir, η_cap, slew)``: the constants.

    ``η_dir = σ n/d``, n = max(−gᵀu, 0) and d = |uᵀHu| averaged over probes, u the base's update per unit of learning rate: the
    lowest point of the loss along the step that is about to be made (directional smoothness, arXiv:2403.04081; CDAT,
    arXiv:2407.06183).  ``η_cap = margin·threshold/λ̂``, λ̂ the largest eigenvalue of the batch's Hessian plus its residual, for
    SGD alone: a rule that divides its steps bears the curvature of another matrix.

    Values are hypotheses tried on small tasks, unless a source is named.

    Attributes:
        sigma: σ; 1 is the lowest point for one batch, and some runs fail there; at 2 the loss of the batch is as before.
        every: steps from one look along the step to the next, at most; a quarter of the steps so far, if that is less.
        average: weight of the past in n and d, at each look.
        form: ``"values"`` sees the loss at 0 and ±η along u: 1 gradient-equivalent, and the kinks of ReLU count;
            ``"product"`` by gradient and Hessian-vector product: 3⅓.
        cap_every: steps from one eigenvalue to the next, at most; they come at steps 0, 50, 100, 200, …
        threshold: the stable λη: 2 for mini-batches with momentum or without (arXiv:2412.20553); 2(1 + β) for full batches
            with Polyak's β (arXiv:2103.00065).
        margin: part of it that is used.
        tol: relative residual of the eigenvalue, which is added to it: a coarse one costs four or five products.
        rise: factor by which the cap may grow from one eigenvalue to the next: one batch may be flat by chance.
        slew: factor by which the learning rate may grow from step to step where a bound has held it; it falls at once.
        cold: part of the bounds at step 0 with which a run begins: networks are flat there, and sharpen within tens of steps.
            A run that asks for less is not touched.
    """

    sigma: float = 0.85
    every: int = 12
    average: float = 0.9
    form: Form = "values"
    cap_every: int = 400
    threshold: float = 2.0
    margin: float = 0.8
    tol: float = 0.3
    rise: float = 1.5
    slew: float = 1.05
    cold: float = 0.05

    def __post_init__(self) -> None:
        for name in ("sigma", "threshold", "margin", "tol", "cold"):
            POSITIVE.check(f"Edge: {name}", getattr(self, name))
        for name in ("every", "cap_every"):
            COUNT.check(f"Edge: {name}", getattr(self, name))
        for name in ("rise", "slew"):
            Range(1.0).check(f"Edge: {name}", getattr(self, name))
        fraction.check("Edge: average", self.average)
        Choice(get_args(Form)).check("Edge: form", self.form)

    def begin(self, capped: bool) -> EdgePolicy:
        """The policy of one run."""
        return EdgePolicy(self, capped)


SEEN = 1e-3  # the relative change of the loss that a look aims at, at least: in float32 rounding is 1e-4 of that
LEAST = 1e-6  # part of the learning rate asked for that is always used: from there it can rise again
FIRST = 50  # steps from the first eigenvalue to the second; then it doubles
TRIES = 8  # looks at ever smaller steps, until one is about as long as the step that it allows

FOREIGN = (
    "the loss of loss_fn hardly falls along the step, where the gradients in the parameters say it does: loss_fn must return"
    " the loss of the batch that backward() was called for, in the same mode and with the same dropout masks, or the bounds are"
    " those of another function"
)


@dataclass
class Held:
    """What an edge policy remembers.

    Attributes:
        loss: |L| at the last look.
        slope, curvature: averages of n and d; their ratio needs no correction for their start.
        agreement: average of −gᵀu by the loss function over that by the gradients in the parameters, each within ±1.
        cap: η_cap.
        sharpness, residual: of the last eigenvalue.
        allowed: the learning rate that bounds and slew allow; NaN before the first step.
        look, eigenvalue: the step at which to measure next.
    """

    loss: float = 0.0
    slope: float = 0.0
    curvature: float = 0.0
    agreement: float = 1.0
    cap: float = math.inf
    sharpness: float = math.nan
    residual: float = math.nan
    allowed: float = math.nan
    look: int = 0
    eigenvalue: float = 0

    @property
    def lowest(self) -> float:
        """n/d."""
        return quotient(self.slope, self.curvature)


class EdgePolicy:
    """One run under ``Edge``.

    Args:
        edge: the constants.
        capped: whether λ̂ bounds the learning rate.
    """

    def __init__(self, edge: Edge, capped: bool) -> None:
        self.edge, self.held = edge, Held(eigenvalue=0 if capped else math.inf)

    @property
    def next_probe(self) -> int:
        """The step at which it measures next."""
        return int(min(self.held.look, self.held.eigenvalue))

    def decide(self, step: int, asked: float, probe: Probe | None) -> Decision:
        """The smallest of the bounds."""
        held, edge, seen, note = self.held, self.edge, NOTHING, ""
        if probe is not None:
            try:
                seen = self.measured(step, asked, probe)
                note = FOREIGN if held.agreement < 0.3 else ""
            except FloatingPointError as error:
                note = f"{error}; the learning rate is halved until it succeeds"
                held.allowed = min(held.allowed, asked) / 2  # NaN stays
                held.look = step + 1
        started = not math.isnan(held.allowed)
        bounds = {"direction": edge.sigma * held.lowest, "sharpness": held.cap}
        bound = min(bounds.values())
        bounds["slew"] = edge.slew * held.allowed if started else edge.cold * bound
        if started or not note:  # no step is made before something is known
            held.allowed = max(min(bound, bounds["slew"]), LEAST * asked)
        active = min(bounds, key=lambda name: bounds[name])
        used = 0.0 if math.isnan(held.allowed) else min(asked, held.allowed)
        return Decision(
            step=step,
            asked=asked,
            used=used,
            active="schedule" if used == asked else active,
            bounds=bounds,
            factors={} if used == asked else {"lr": used / asked},
            loss=seen.loss,
            slope=seen.slope,
            curvature=seen.curvature,
            sharpness=held.sharpness,
            residual=held.residual,
            ratio=used * held.sharpness / edge.threshold,
            cost=float(probe.cost.gradient_equivalents) if probe else 0.0,
            note=note,
        )

    def measured(self, step: int, asked: float, probe: Probe) -> Along:
        """Look along the step, and at the largest eigenvalue, whichever is due."""
        held, edge, seen = self.held, self.edge, NOTHING
        looks = step >= held.look
        begins = math.isnan(held.allowed)
        lr = edge.cold * asked if begins else min(asked, held.allowed)
        u = probe.update(lr) if looks else []  # before any graph is made, which the rehearsal would spoil
        if step >= held.eigenvalue:
            pairs = probe.spectrum(1, "largest", edge.tol, seed=step)
            held.residual = pairs.residuals[0].item()
            held.sharpness = pairs.eigenvalues[0].item() + held.residual
            cap = edge.margin * edge.threshold / held.sharpness if held.sharpness > 0 else math.inf
            held.cap = min(cap, edge.rise * held.cap)
            held.eigenvalue = step + min(max(step, FIRST), edge.cap_every)
        if looks:
            seen = self.looked(probe, u, min(lr, edge.cold * held.cap) if begins else lr)
            a = edge.average
            held.agreement = agreement(held.agreement, seen.slope, probe.foretold(u))
            held.slope = a * held.slope + (1 - a) * max(seen.slope, 0.0)
            held.curvature = a * held.curvature + (1 - a) * abs(seen.curvature)
            held.look = step + min(max(step // 4, 1), edge.every)
        return seen

    def looked(self, probe: Probe, u: list[Tensor], lr: float) -> Along:
        """The loss along a step about as long as the one that it allows: far beyond, it says nothing of that."""
        held, form = self.held, self.edge.form
        h = max(lr, SEEN * held.loss / held.slope) if held.slope > 0 else lr
        seen = probe.along(u, h, form)
        for _ in range(TRIES):
            if not math.isfinite(seen.loss):
                raise FloatingPointError(f"the loss is {seen.loss}")
            nearer = next_size(h, seen)
            if form == "product" or nearer == h:
                break
            h = nearer
            seen = probe.along(u, h, form)
        if not seen.finite:
            raise FloatingPointError(f"the loss along the step is not finite at a learning rate of {h:g}")
        held.loss = abs(seen.loss)
        return seen

    def state_dict(self) -> dict[str, Any]:
        """Numbers."""
        return dict(vars(self.held))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.held = Held(**state)


def next_size(h: float, seen: Along) -> float:
    """At which step to look again: h itself where it shows what a step of about that size does."""
    if not seen.finite:
        return h / 100
    if abs(h * seen.slope) < SEEN / 10 * abs(seen.loss):
        return 10 * h  # the change is little more than rounding
    return max(seen.lowest, h / 100) if 0 < seen.lowest < h / 4 else h


def agreement(before: float, seen: float, foretold: float) -> float:
    """The average with one more look, which says something where the gradients foretell a fall."""
    return 0.95 * before + 0.05 * min(max(seen / foretold, -1.0), 1.0) if foretold > 0 else before
