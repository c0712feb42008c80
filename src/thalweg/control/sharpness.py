"""How sharp the loss is where the gradient sees it, and how sharp it has become since."""

from __future__ import annotations

import math
from dataclasses import dataclass

from thalweg.control.bound import Bound, Seen
from thalweg.control.edge import Edge
from thalweg.control.probe import Along, Probe, quotient

RISE = 1.5  # the cap may grow so much from one measurement to the next: one batch may be flat by chance
DOUBT = 0.5  # a λ̂ lower than this part of the last may have missed an eigenvector that the gradient has come to miss
GROWN = 1.5  # average gradients so much larger than at the last measurement call for another,
CLOSE = 0.7  # where more than this part of what would then be allowed is asked for,
PAUSE = 3  # so many steps after the last one at least,
ADVANCE = 30.0  # and of the budget so many gradient-equivalents may be spent at once: sharpening is early and fast


@dataclass
class Track(Seen):
    """What is remembered of the sharpness.

    Attributes:
        norm: average norm of the gradients at the last measurement.
        cap: ``margin·threshold/λ̂``.
        spent: gradient-equivalents of all measurements.
        last: the step of the last measurement.
    """

    norm: float = math.nan
    cap: float = math.inf
    spent: float = 0.0
    last: int = -1


class SharpnessBound(Bound[Track]):
    """``η ≤ margin·threshold/λ̂``.

    λ̂ is the largest Ritz value of the batch's Hessian on the Krylov space of the batch's gradient, plus its residual: most of
    the gradient lies where curvature is large (arXiv:1812.04754), so that two products do for what a random start takes
    five for.  Where gradients stay larger than they were then, λ̂ is measured anew.
    """

    name, agrees = "sharpness", 0.8

    def __init__(self, edge: Edge) -> None:
        self.edge, self.held = edge, Track()

    def measure(self, step: int, asked: float, allowed: float, probe: Probe) -> Along:
        """λ̂ by a few products."""
        held, edge = self.held, self.edge
        value, held.residual = probe.sharpness(edge.products, doubted=DOUBT * held.sharpness)
        held.sharpness = value + held.residual
        held.cap = min(edge.margin * quotient(edge.threshold, max(held.sharpness, 0.0)), RISE * held.cap)
        if not probe.draws:  # other dropout masks make another gradient
            held.agreement = probe.agreement
        held.spent += float(probe.cost.gradient_equivalents)
        held.last, held.next = step, step + edge.cap_every * (2 if asked < held.cap / 2 else 1)
        return probe.along_gradient()

    @property
    def value(self) -> float:
        """The cap."""
        return self.held.cap

    def watch(self, step: int, asked: float, norm: float) -> None:
        """Measure at the next step where gradients have grown so much that λ̂ is out of date, it matters and can be afforded."""
        held = self.held
        if step == held.last:
            held.norm = norm
        growth = quotient(norm, held.norm)
        matters = growth > GROWN and asked * growth > CLOSE * held.cap
        if matters and step >= held.last + PAUSE and held.spent < self.edge.budget * step + ADVANCE:
            held.next = min(held.next, step + 1)
