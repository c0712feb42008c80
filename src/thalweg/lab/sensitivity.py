"""How wide the range of usable learning rates is, in decades."""

import math
from dataclasses import dataclass

KEPT = 0.9
"""A learning rate is usable when it keeps this part of the best one's improvement over the untrained network."""


@dataclass(frozen=True)
class UsableRange:
    """Learning rates around the best one that stay usable."""

    low: float
    high: float
    open: bool
    """Whether the range reaches an end of the tried ones, so that it may be wider."""

    @property
    def decades(self) -> float:
        """Width on the logarithmic scale."""
        return math.log10(self.high / self.low)


def usable_range(trials: list[tuple[float, float | None]], untrained: float) -> UsableRange | None:
    """Find the usable range around the best learning rate; None when no trial improved on the untrained network.

    Args:
        trials: (learning rate, metric oriented so that larger is better, or None for a failure).
        untrained: The oriented metric before training.

    Between neighbouring trials the metric is interpolated linearly in log lr; a failed neighbour ends the range at the
    last trial that worked.
    """
    ordered = sorted(trials)
    worked = [(value, lr) for lr, value in ordered if value is not None]
    if not worked or max(worked)[0] <= untrained:
        return None
    best, best_lr = max(worked)
    floor = untrained + KEPT * (best - untrained)
    center = [lr for lr, _ in ordered].index(best_lr)
    low, open_low = _edge(ordered[center::-1], floor)
    high, open_high = _edge(ordered[center:], floor)
    return UsableRange(low, high, open_low or open_high)


def _edge(outward: list[tuple[float, float | None]], floor: float) -> tuple[float, bool]:
    """Walk from the best trial outward to where the metric falls below the floor."""
    lr, value = outward[0]
    assert value is not None
    for next_lr, next_value in outward[1:]:
        if next_value is None:
            return lr, False
        if next_value < floor:
            part = (value - floor) / (value - next_value)
            return lr * (next_lr / lr) ** part, False
        lr, value = next_lr, next_value
    return lr, True
