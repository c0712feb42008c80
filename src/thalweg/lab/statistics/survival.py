"""Time to a target: when a run's best validation metric first reaches a value, and what holds of those that never do.

    b(t) = best metric up to t,   T = min { t : b(t) ≥ target }

Values are oriented: larger is better, what is not finite is −∞. A miss is T = ∞ in medians and right-censored in survival
curves (Kaplan & Meier 1958; log-rank test: Mantel 1966). Time to a target measures training in AlgoPerf, arXiv:2306.07179.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from thalweg.lab.statistics import scipy
from thalweg.lab.statistics.paired import Values


@dataclass(frozen=True)
class Times:
    """When the runs of a cell reached the targets of its task, in one measure of time."""

    reached: Values
    """One row a seed, one column a target; ∞ for a miss. A run that did not end well has reached nothing."""
    ends: Values
    """Where the misses of each seed are censored."""

    @property
    def medians(self) -> list[float]:
        """The median time to each target over all seeds, misses ∞."""
        return [middle(column) for column in self.reached.T]

    def censored(self, level: int) -> Any:
        """The times to one target as scipy's `CensoredData`."""
        column = self.reached[:, level]
        missed = np.isinf(column)
        return scipy.stats.CensoredData(uncensored=column[~missed], right=self.ends[missed])


def time_to(clock: Values, metric: Values, target: float) -> float:
    """Return when the best metric so far first reaches a target, ∞ if never.

    Args:
        clock: Time of each point of the curve, ascending.
        metric: Its oriented metric.
        target: The oriented target.

    Between two points the best so far is interpolated linearly. A curve that begins at the target has time 0.
    """
    best = np.maximum.accumulate(metric)
    after = int(np.searchsorted(best, target))
    if after == len(best):
        return float(np.inf)
    if after == 0 or np.isinf(best[after - 1]):
        return float(clock[after])
    part = (target - best[after - 1]) / (best[after] - best[after - 1])
    return float(clock[after - 1] + part * (clock[after] - clock[after - 1]))


def middle(values: Values) -> float:
    """Return the median, infinities allowed; halfway between −∞ and ∞ it is 0."""
    ordered = np.sort(values)
    low, high = float(ordered[(len(ordered) - 1) // 2]), float(ordered[len(ordered) // 2])
    if low == high:
        return low
    return 0.0 if np.isinf(low) and np.isinf(high) else (low + high) / 2


def share_reached(times: Times, level: int) -> list[tuple[float, float]]:
    """Return the steps (time, share of the seeds that have reached the target) of one less the survival curve.

    The Kaplan–Meier estimate, `scipy.stats.ecdf` of censored data. It begins at time 0 and ends where the last run does.
    """
    cdf = scipy.stats.ecdf(times.censored(level)).cdf
    steps = [(0.0, 0.0), *zip(cdf.quantiles.tolist(), cdf.probabilities.tolist(), strict=True)]
    # Censored times change nothing: the first, the last, and where the curve rises.
    rises = [step for before, step in pairwise(steps) if step[1] > before[1]]
    return [steps[0], *rises, (max(steps[-1][0], float(times.ends.max())), steps[-1][1])]


def log_rank(candidate: Times, reference: Times, level: int) -> float | None:
    """Return the two-sided p-value of the log-rank test that two optimizers reach a target equally fast.

    It takes the seeds as unpaired. None when no run of either has reached the target.
    """
    with np.errstate(invalid="ignore"):
        p = float(scipy.stats.logrank(candidate.censored(level), reference.censored(level)).pvalue)
    return None if np.isnan(p) else p


def ends(own: Sequence[float], ok: Sequence[bool], whole: float) -> Values:
    """Return where misses are censored: of a run that ended well at its own end, of one that failed at the end of a whole run,
    for to let it leave earlier would say that it might still have arrived."""
    return np.array([end if well else max(whole, end) for end, well in zip(own, ok, strict=True)])
