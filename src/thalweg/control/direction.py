"""How far the loss falls along the step that is about to be made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from thalweg.control.bound import Bound, Seen
from thalweg.control.edge import Edge
from thalweg.control.probe import Along, Probe, quotient

SEEN = 1e-3  # the relative change of the loss that a look aims at, at least: in float32 rounding is 1e-4 of that
TRIES = 8  # looks at ever smaller steps, until one is about as long as the step that it allows


@dataclass
class Looks(Seen):
    """What is remembered of looks.

    Attributes:
        loss: |L| at the last one.
        slope, curvature: averages of n and d; their ratio needs no correction for their start.
    """

    loss: float = 0.0
    slope: float = 0.0
    curvature: float = 0.0


class DirectionBound(Bound[Looks]):
    """``η ≤ σ n/d``, n = max(−gᵀu, 0) and d = |uᵀHu| averaged over looks, u the base's update per unit of learning rate.

    The lowest point of the loss along the step (directional smoothness, arXiv:2403.04081; CDAT, arXiv:2407.06183).  It suits
    rules that divide: their step does not shrink with the gradient, so that n/d falls as progress ends.  For SGD it stays
    four times and more below the best learning rate on some tasks.
    """

    name, agrees = "direction", 0.3

    def __init__(self, edge: Edge) -> None:
        self.edge, self.held = edge, Looks()

    @property
    def value(self) -> float:
        """σ n/d."""
        return self.edge.sigma * quotient(self.held.slope, self.held.curvature)

    def watch(self, step: int, asked: float, norm: float) -> None:
        """Looks are frequent enough."""

    def measure(self, step: int, asked: float, allowed: float, probe: Probe) -> Along:
        """Look along the step."""
        held, a = self.held, self.edge.average
        lr = self.edge.cold * asked if math.isnan(allowed) else min(asked, allowed)
        u = probe.update(lr)
        seen = self.looked(probe, u, lr)
        if not probe.draws:  # other dropout masks make another slope
            held.agreement = agreement(held.agreement, seen.slope, probe.foretold(u))
        held.loss = abs(seen.loss)
        held.slope = a * held.slope + (1 - a) * max(seen.slope, 0.0)
        held.curvature = a * held.curvature + (1 - a) * abs(seen.curvature)
        held.next = step + min(max(step // 4, 1), self.edge.every)
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
        return seen


def next_size(h: float, seen: Along) -> float:
    """At which step to look again: h itself where it shows what a step of about that size does."""
    if not seen.finite:
        return h / 100
    if abs(h * seen.slope) < SEEN / 10 * abs(seen.loss):
        return 10 * h  # the change is little more than rounding
    return max(seen.lowest, h / 100) if 0 < seen.lowest < h / 4 else h


def agreement(before: float, seen: float, foretold: float) -> float:
    """The average with one more look, which says something where the gradients foretell a fall.

    A slope that is steeper than foretold agrees: gradients may have been clipped.
    """
    return 0.95 * before + 0.05 * min(max(seen / foretold, -1.0), 1.0) if foretold > 0 else before
