"""How wide the range of usable learning rates is, in decades."""

import math
from dataclasses import dataclass


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


def usable_range(trials: list[tuple[float, float | None]], tolerance: float) -> UsableRange | None:
    """Find the learning rates around the best one that come within a tolerance of it; None when every trial failed.

    Args:
        trials: (learning rate, metric oriented so that larger is better, or None for a failure).
        tolerance: How much of the metric may be lost.

    Between neighbouring trials the metric is interpolated linearly in log lr; a failed neighbour ends the range at the
    last trial that worked.
    """
    worked = [value for _, value in trials if value is not None]
    return range_above(trials, max(worked) - tolerance) if worked else None


def range_above(trials: list[tuple[float, float | None]], floor: float) -> UsableRange | None:
    """Find the learning rates around the best one that do not fall below a floor, as `usable_range` does; None when the
    best one does. Of several that are equally good, the one with the widest range counts."""
    ordered = sorted(trials, key=lambda trial: trial[0])
    best = max((value for _, value in trials if value is not None), default=-math.inf)
    if best < floor or not math.isfinite(best):
        return None
    around = [_around(ordered, number, floor) for number, (_, value) in enumerate(ordered) if value == best]
    return max(around, key=lambda found: found.decades)


def _around(ordered: list[tuple[float, float | None]], center: int, floor: float) -> UsableRange:
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
