"""How sharp the loss is where the gradient sees it, and how sharp it has become since."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from thalweg.control.bound import Bound, Held
from thalweg.control.edge import Edge
from thalweg.control.probe import Along, Probe, quotient

RISE = 1.5  # the cap may grow so much from one measurement to the next: one batch may be flat by chance
MEMORY = 0.9  # weight of the past in the average norm of the gradients, a step
GROWN = 1.5  # average gradients so much larger than at the last measurement call for another,
CLOSE = 0.7  # where more than this part of what would then be allowed is asked for,
PAUSE = 3  # so many steps after the last one at least,
ADVANCE = 30.0  # and of the budget so many gradient-equivalents may be spent at once: sharpening is early and fast


@dataclass
class Track(Held):
    """What is remembered of the sharpness.

    Attributes:
        norm: average of the gradients' norm; NaN before the first step.
        norm_then: what it was at the last measurement.
        cap: ``margin·threshold/λ̂``.
        spent: gradient-equivalents of all measurements.
        last: the step of the last measurement.
    """

    norm: float = math.nan
    norm_then: float = math.nan
    cap: float = math.inf
    spent: float = 0.0
    last: int = -1


class SharpnessBound(Bound[Track]):
    """``η ≤ margin·threshold/λ̂ · min(1, ‖g‖ₐᵥ/‖g‖)``.

    λ̂ is the largest Ritz value of the batch's Hessian on the Krylov space of the batch's gradient, plus its residual: most of
    the gradient lies where curvature is large (arXiv:1812.04754), so that two products do for what a random start takes
    five for.  Between measurements curvature is taken to grow with the gradient's norm, as under (L₀, L₁)-smoothness
    (arXiv:1905.11881): a large gradient lowers the bound at once, and where they stay large λ̂ is measured anew.
    """

    name, agrees = "sharpness", 0.8

    def __init__(self, edge: Edge) -> None:
        self.edge, self.held = edge, Track()

    def measure(self, step: int, asked: float, allowed: float, probe: Probe) -> Along:
        """λ̂ by a few products."""
        held, edge = self.held, self.edge
        value, held.residual = probe.sharpness(edge.products)
        held.sharpness = value + held.residual
        held.cap = min(edge.margin * quotient(edge.threshold, max(held.sharpness, 0.0)), RISE * held.cap)
        if not probe.draws:  # other dropout masks make another gradient
            held.agreement = probe.agreement
        held.spent += float(probe.cost.gradient_equivalents)
        held.last, held.next = step, step + edge.cap_every * (2 if asked < held.cap / 2 else 1)
        return probe.along_gradient()

    def value(self, step: int, asked: float, norm: Callable[[], float]) -> float:
        """The cap, lower where the gradient is larger than of late."""
        held, now = self.held, norm()
        if not math.isfinite(now):
            return held.cap
        average = held.norm if held.norm > 0 else now  # nothing is large beside gradients that were all 0
        held.norm = MEMORY * average + (1 - MEMORY) * now
        if step == held.last:
            held.norm_then = held.norm
        elif self.grown(step, asked):
            held.next = min(held.next, step + 1)
        return held.cap * min(1.0, quotient(average, now))

    def grown(self, step: int, asked: float) -> bool:
        """Whether the gradients have grown so much that λ̂ is out of date, and it matters and can be afforded."""
        held = self.held
        growth = quotient(held.norm, held.norm_then)
        matters = growth > GROWN and asked * growth > CLOSE * held.cap
        return matters and step >= held.last + PAUSE and held.spent < self.edge.budget * step + ADVANCE
