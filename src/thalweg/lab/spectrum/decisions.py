"""What a governed run's controller decided, step by step: as columns, as shares, in words."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from thalweg.control import Decision

MEANINGS = {
    "schedule": "the learning rate asked for",
    "direction": "where the loss along the step is lowest",
    "sharpness": "what the largest eigenvalue bears",
    "slew": "how fast it may rise, from the cold start on",
    "exponential": "the law of exponentials",
    "gradients": "no step, the gradients being not finite",
    "groups": "where the loss along each group's move is lowest",
}
"""Of the bounds, by name."""


def columns(decisions: Sequence[Decision], thresholds: Sequence[float]) -> dict[str, Any]:
    """One entry a step, beginning with the first.

    Args:
        decisions: of the steps.
        thresholds: at the learning rates used, as the figures compare the sharpness with.
    """
    names = dict.fromkeys(name for decision in decisions for name in decision.bounds)
    return {
        **{name: [getattr(one, name) for one in decisions] for name in ("asked", "used", "active")},
        "bounds": {name: [one.bounds.get(name, math.nan) for one in decisions] for name in names},
        "threshold": list(thresholds),
        **{
            name: [getattr(one, name) for one in decisions]
            for name in ("sharpness", "residual", "ratio", "cost", "note")
        },
    }


def shares(decisions: Sequence[Decision]) -> list[tuple[str, float]]:
    """The bounds that were active and their part of the steps, the most frequent first."""
    return [(name, n / len(decisions)) for name, n in Counter(one.active for one in decisions).most_common()]


def rates(decisions: Sequence[Decision]) -> str:
    """Say which learning rates were asked for and used."""
    used = [one.used for one in decisions]
    low, high = f"{min(used):.3g}", f"{max(used):.3g}"
    spread = f"{low} used" if low == high else f"{median(used):.3g} used in the median, from {low} to {high}"
    return f"Learning rate {decisions[-1].asked:.3g} asked for, {spread}."


def price(decisions: Sequence[Decision]) -> str:
    """Say what measuring took."""
    costs = [one.cost for one in decisions]
    looks, steps, cost = sum(one > 0 for one in costs), len(costs), sum(costs)
    return f"Measuring at {looks} of {steps} steps cost {cost:.4g} gradient-equivalents, {cost / steps:.1%} of the steps' own."


def troubles(decisions: Sequence[Decision]) -> list[str]:
    """What went wrong, each thing once."""
    times, first = Counter(one.note for one in decisions), dict[str, int]()
    for one in decisions:
        first.setdefault(one.note, one.step + 1)
    more = {note: f" and {n - 1} more" if n > 1 else "" for note, n in times.items()}
    return [f"Step {first[note]}{more[note]}: {note.rstrip('.')}." for note in times if note]
