"""How many times faster a candidate reaches the targets than a reference, paired by seed, misses included.

    s = mean over targets of ln (T_reference / T_candidate),   speed-up = exp (median over seeds of s)

A target that the candidate alone misses makes s = −∞, one that the reference alone misses ∞; one that both miss says nothing
and is left out. The interval is that of the sign test: it assumes no distribution, and order statistics may be infinite.
"""

from dataclasses import dataclass

import numpy as np

from thalweg.lab.statistics import scipy
from thalweg.lab.statistics.paired import Interval, Values, Verdict, judge
from thalweg.lab.statistics.survival import middle

MARGIN = 1.05
"""Speed-ups within 1 / MARGIN … MARGIN are a tie."""


@dataclass(frozen=True)
class SpeedUp:
    """A candidate's speed-up over a reference on one task."""

    ratio: Interval
    """T_reference / T_candidate; 0 or ∞ where one of them missed."""
    confidence: float
    """What the interval has, exactly."""
    seeds: int
    """Those that say something: in which one of the two reached a target."""
    each: list[float]
    """The ratio of each of them."""
    verdict: Verdict


def log_speed_ups(candidate: Values, reference: Values) -> Values:
    """Return s of each seed; NaN where neither reached any target.

    Args:
        candidate: Times, one row a seed, one column a target, ∞ for a miss.
        reference: The reference's times on the same seeds and targets.
    """
    says = (np.isfinite(candidate) | np.isfinite(reference)) & (np.maximum(candidate, reference) > 0)
    ratios = np.where(says, reference, 1.0) / np.where(says, candidate, 1.0)
    with np.errstate(divide="ignore"):
        logs = np.log(ratios)
    counts = says.sum(1)
    return np.where(counts > 0, logs.sum(1) / np.maximum(counts, 1), np.nan)


def sign_interval(values: Values, confidence: float) -> tuple[Interval, float]:
    """Return the median with the exact interval of the sign test, and the confidence that it has.

    [x₍ₖ₎, x₍ₙ₊₁₋ₖ₎] holds the median with probability 1 − 2 P(B < k), B binomial (n, ½); k is the largest with which that is
    at least the confidence asked for, or 1 when the seeds are too few for it (Gibbons & Chakraborti 2003, sect. 5.4).
    """
    ordered, n = np.sort(values), len(values)
    k = max(1, int(scipy.stats.binom.ppf((1 - confidence) / 2, n, 0.5)))
    reached = 1 - 2 * float(scipy.stats.binom.cdf(k - 1, n, 0.5))
    return Interval(middle(ordered), float(ordered[k - 1]), float(ordered[n - k])), max(0.0, reached)


def speed_up(candidate: Values, reference: Values, comparisons: int, more_failures: int = 0) -> SpeedUp | None:
    """Compare times to the targets; None when no seed says anything.

    Args:
        candidate: Times, one row a seed, one column a target, ∞ for a miss.
        reference: The reference's times on the same seeds and targets.
        comparisons: How many such comparisons are read together; the 5 % of false findings is divided among them.
        more_failures: Failed runs of the candidate less those of the reference. Who fails more often is never called better.
    """
    logs = log_speed_ups(candidate, reference)
    logs = logs[~np.isnan(logs)]
    if not len(logs):
        return None
    asked = 1 - 0.05 / comparisons
    found, reached = sign_interval(logs, asked)
    verdict: Verdict = judge(found, found, float(np.log(MARGIN))) if reached >= asked else "not resolved"
    if (verdict == "better" and more_failures > 0) or (verdict == "worse" and more_failures < 0):
        verdict = "not resolved"
    ratio = Interval(*(float(np.exp(end)) for end in (found.middle, found.low, found.high)))
    return SpeedUp(ratio, reached, len(logs), np.exp(logs).tolist(), verdict)
