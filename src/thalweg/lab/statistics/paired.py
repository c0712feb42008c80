"""What a handful of seeds can say. Failed runs take part everywhere, as the worst possible value.

Values are oriented: larger is better, a failure is −∞. Decisions rest on the paired Student interval, not on a
percentile bootstrap, whose intervals are too narrow for so few seeds (Efron & Tibshirani 1993, sect. 14.3). A tie is shown by
two one-sided tests, each at the same α: the interval at 1 − 2α lies inside the margin (Schuirmann 1987).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thalweg.lab.statistics import scipy

Verdict = Literal["better", "worse", "tie", "not resolved"]
Values = NDArray[np.float64]

RESAMPLES = 4000
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A candidate against a reference on one task, seed by seed. Positive differences favour the candidate."""

    difference: Interval | None
    """Mean paired difference at the joint confidence level; None with fewer than two seeds or any failed run."""
    verdict: Verdict
    detectable: float | None
    """Minimum detectable effect: the true difference that so many seeds would show with 80 % power."""
    improvement: float
    """P(improvement): the chance that a run of the candidate beats a run of the reference."""


def median_interval(values: Values, confidence: float = 0.95) -> Interval:
    """Return the median with its percentile bootstrap interval; infinite values are allowed."""
    rng = np.random.default_rng(0)
    medians = np.median(values[rng.integers(len(values), size=(RESAMPLES, len(values)))], axis=1)
    tail = (1 - confidence) / 2
    # Order statistics: interpolating between a number and an infinity has no meaning.
    low, high = np.quantile(medians, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(np.median(values)), float(low), float(high))


def range_holds_median(runs: int) -> float:
    """Return the chance that the true median lies between the worst and the best of so many runs: 1 − 2 · 2⁻ⁿ."""
    return 1 - 2.0 ** (1 - runs)


def compare(candidate: Values, reference: Values, margin: float, comparisons: int = 1) -> Comparison:
    """Compare oriented values paired by seed.

    Args:
        candidate: One value a seed.
        reference: The reference's values on the same seeds.
        margin: Differences within ± margin do not matter.
        comparisons: How many such comparisons are read together; the 5 % of false findings is divided among them.
    """
    alpha = 0.05 / comparisons
    improvement = probability_of_improvement(candidate, reference)
    if len(candidate) < 2:
        return Comparison(None, "not resolved", None, improvement)
    if not np.isfinite([candidate, reference]).all():
        return Comparison(None, _verdict_with_failures(candidate, reference, alpha), None, improvement)
    difference = student_interval(candidate - reference, 1 - alpha)
    narrower = student_interval(candidate - reference, 1 - 2 * alpha)
    detectable = minimum_detectable(candidate - reference, alpha)
    return Comparison(difference, judge(difference, narrower, margin), detectable, improvement)


def student_interval(differences: Values, confidence: float) -> Interval:
    """Return the mean of paired differences with Student's interval."""
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    reach = float(scipy.stats.t.ppf((1 + confidence) / 2, len(differences) - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


def judge(difference: Interval, narrower: Interval, margin: float) -> Verdict:
    """Judge a difference: a tie if the narrower interval lies inside the margin, else by the sign of the interval's ends."""
    if -margin <= narrower.low and narrower.high <= margin:
        return "tie"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "not resolved"


def _verdict_with_failures(candidate: Values, reference: Values, alpha: float) -> Verdict:
    """Judge by ranks, where a failure is last; who fails more often is never called better."""
    failures = int(np.isinf(candidate).sum()) - int(np.isinf(reference).sum())
    if np.array_equal(candidate, reference):
        return "tie" if np.isfinite(candidate).any() else "not resolved"
    if float(scipy.stats.mannwhitneyu(candidate, reference).pvalue) > alpha:
        return "not resolved"
    if probability_of_improvement(candidate, reference) > 0.5:
        return "better" if failures <= 0 else "not resolved"
    return "worse" if failures >= 0 else "not resolved"


def minimum_detectable(differences: Values, alpha: float) -> float:
    """Return the true mean difference that Student's paired test at `alpha` would find with 80 % power.

    Solved on the noncentral t distribution with the differences' own standard deviation.
    """
    freedom = len(differences) - 1
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    critical = float(scipy.stats.t.ppf(1 - alpha / 2, freedom))

    def excess(shift: float) -> float:
        return float(scipy.stats.nct.sf(critical, freedom, shift)) - POWER

    return float(scipy.optimize.brentq(excess, 0.0, critical * 4 + 10)) * error


def probability_of_improvement(candidate: Values, reference: Values) -> float:
    """Return the share of (candidate, reference) pairs the candidate wins, ties counting half."""
    ours, theirs = candidate[:, None], reference[None, :]
    return float((ours > theirs).mean() + 0.5 * (ours == theirs).mean())


def improvement_over_tasks(pairs: list[tuple[Values, Values]], confidence: float = 0.95) -> Interval:
    """Return P(improvement) averaged over tasks, with a bootstrap interval stratified by task.

    Seeds are resampled within each task, a candidate's and its reference's run of a seed together.
    """
    total = np.zeros(RESAMPLES)
    for task, (candidate, reference) in enumerate(pairs):
        seeds = len(candidate)
        drawn = _drawn(seeds, task)
        ours, theirs = candidate[:, None], reference[None, :]
        wins = (ours > theirs) + 0.5 * (ours == theirs)
        total += (drawn @ wins * drawn).sum(1) / seeds**2
    low, high = np.quantile(total / len(pairs), [(1 - confidence) / 2, (1 + confidence) / 2])
    middle = sum(probability_of_improvement(*pair) for pair in pairs) / len(pairs)
    return Interval(middle, float(low), float(high))


@lru_cache(maxsize=64)
def _drawn(seeds: int, task: int) -> Values:
    """Return how often each resample of a task draws each seed; the same for all optimizers, which keeps them comparable."""
    return np.random.default_rng(task).multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES).astype(float)
