"""Scores that can be put together over tasks, and their interquartile mean.

    score = max(0, (value − untrained) / (goal − untrained))

The goal is the task's hardest target, or without targets the first reference's median; a failed run scores 0.

Source: Agarwal et al. 2021, arXiv:2108.13264, sect. 4.3: the mean of the middle half of all runs, and its interval by a
bootstrap stratified by task.
"""

import numpy as np

from thalweg.lab.statistics import scipy
from thalweg.lab.statistics.paired import Interval, Values

CUT = 0.25
RESAMPLES = 2000


def scores(values: Values, untrained: float, goal: float) -> Values:
    """Return the scores of oriented values, failures −∞."""
    return np.clip((values - untrained) / (goal - untrained), 0, None)


def interquartile_mean(values: Values) -> float:
    """Return the mean of the middle half; infinities may be among it, and −∞ prevails."""
    middle = np.sort(values)[int(CUT * len(values)) : len(values) - int(CUT * len(values))]
    return float(middle[0]) if np.isinf(middle[0]) else float(middle.mean())


def interquartile_mean_over_tasks(tasks: list[Values], confidence: float = 0.95) -> Interval:
    """Return the interquartile mean of the scores of all tasks together, with its stratified bootstrap interval."""
    rng = np.random.default_rng(0)
    drawn = np.concatenate([task[rng.integers(len(task), size=(RESAMPLES, len(task)))] for task in tasks], axis=1)
    means = scipy.stats.trim_mean(drawn, CUT, axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(interquartile_mean(np.concatenate(tasks)), float(low), float(high))
