"""The statistics against scipy, closed forms and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from thalweg.lab.statistics.paired import (
    compare,
    improvement_over_tasks,
    median_interval,
    minimum_detectable,
    probability_of_improvement,
    student_interval,
)

rng = np.random.default_rng(0)
values = st.lists(st.floats(-10, 10) | st.just(-np.inf), min_size=2, max_size=12).map(np.array)
pairs = st.integers(2, 10).flatmap(
    lambda n: st.tuples(*[st.lists(st.floats(-10, 10) | st.just(-np.inf), min_size=n, max_size=n).map(np.array)] * 2)
)


def test_student_interval_is_that_of_the_paired_t_test() -> None:
    one, other = rng.normal(size=(2, 8))
    expected = stats.ttest_rel(one, other).confidence_interval(0.99)
    found = student_interval(one - other, 0.99)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.middle == pytest.approx((one - other).mean())


def test_median_interval_agrees_with_scipys_percentile_bootstrap() -> None:
    sample = rng.normal(size=40)
    expected = stats.bootstrap((sample,), np.median, method="percentile", n_resamples=9999, rng=1).confidence_interval
    found = median_interval(sample)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05)


def test_median_interval_holds_failures() -> None:
    found = median_interval(np.array([1.0, 2.0, 3.0, -np.inf, -np.inf, -np.inf]))
    assert found.middle == -np.inf
    assert found.low == -np.inf
    assert 2.0 <= found.high <= 3.0


@given(pairs)
def test_probability_of_improvement_is_the_mann_whitney_statistic(pair: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = (np.nan_to_num(part, neginf=-1e9) for part in pair)
    expected = stats.mannwhitneyu(one, other, method="asymptotic").statistic / (len(one) * len(other))
    assert probability_of_improvement(*pair) == pytest.approx(expected)


@given(pairs)
def test_swapping_the_sides_mirrors_the_verdict(pair: tuple[np.ndarray, np.ndarray]) -> None:
    mirrored = {"better": "worse", "worse": "better", "tie": "tie", "not resolved": "not resolved"}
    one, other = compare(*pair, margin=0.1), compare(*reversed(pair), margin=0.1)
    assert one.verdict == mirrored[other.verdict]
    assert one.improvement == pytest.approx(1 - other.improvement)


@given(values, st.integers(1, 5))
def test_who_fails_more_often_is_never_better(reference: np.ndarray, failures: int) -> None:
    candidate = np.where(np.isfinite(reference), reference + 100, reference)
    working = np.flatnonzero(np.isfinite(reference))
    candidate[working[:failures]] = -np.inf
    if len(working):
        assert compare(candidate, reference, margin=0.1).verdict != "better"


def test_an_optimizer_that_always_fails_is_worse() -> None:
    assert compare(np.full(6, -np.inf), rng.normal(size=6), margin=0.1, comparisons=5).verdict == "worse"


def test_equal_values_are_a_tie_and_one_seed_resolves_nothing() -> None:
    sample = rng.normal(size=5)
    assert compare(sample, sample.copy(), margin=0.0).verdict == "tie"
    assert compare(sample[:1], sample[:1] + 5, margin=0.1).verdict == "not resolved"


def test_a_large_paired_effect_is_found_and_a_small_one_is_a_tie() -> None:
    reference = rng.normal(size=10)
    assert compare(reference + 1 + rng.normal(size=10) / 10, reference, 0.1).verdict == "better"
    assert compare(reference - 1 + rng.normal(size=10) / 10, reference, 0.1).verdict == "worse"
    assert compare(reference + rng.normal(size=10) / 1000, reference, 0.1).verdict == "tie"


def test_false_findings_stay_below_five_in_a_hundred() -> None:
    draws = rng.normal(size=(2000, 2, 6))
    findings = sum(compare(*draw, margin=0.0).verdict in ("better", "worse") for draw in draws)
    assert findings / len(draws) < 0.05 + 3 * (0.05 * 0.95 / len(draws)) ** 0.5


def test_the_detectable_effect_is_found_four_times_in_five() -> None:
    seeds, spread = 10, 0.7
    differences = rng.normal(size=seeds)
    differences = spread * (differences - differences.mean()) / differences.std(ddof=1)
    effect = minimum_detectable(differences, alpha=0.05)
    simulated = rng.normal(effect, spread, size=(20000, seeds))
    t = simulated.mean(axis=1) / (simulated.std(axis=1, ddof=1) / seeds**0.5)
    power = (t > stats.t.ppf(0.975, seeds - 1)).mean()
    assert power == pytest.approx(0.8, abs=0.01)


def test_improvement_over_tasks_is_the_mean_of_the_tasks() -> None:
    tasks = [(rng.normal(0.5, size=8), rng.normal(size=8)) for _ in range(3)]
    found = improvement_over_tasks(tasks)
    assert found.middle == pytest.approx(np.mean([probability_of_improvement(*task) for task in tasks]))
    assert found.low < found.middle < found.high
