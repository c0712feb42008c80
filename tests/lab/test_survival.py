"""Times to targets, survival curves and speed-ups against naive loops, scipy and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from thalweg.lab.statistics.paired import compare
from thalweg.lab.statistics.speedup import MARGIN, log_speed_ups, sign_interval, speed_up
from thalweg.lab.statistics.survival import Times, ends, log_rank, middle, share_reached, time_to

inf = math.inf
numbers = st.floats(-5, 5) | st.just(-inf)
arrivals = st.lists(st.floats(1, 100) | st.just(inf), min_size=3, max_size=3)
times = st.integers(1, 9).flatmap(lambda n: st.tuples(*[st.lists(arrivals, min_size=n, max_size=n)] * 2))


def naive_time_to(clock: list[float], metric: list[float], target: float) -> float:
    best = -inf
    for number, (now, value) in enumerate(zip(clock, metric, strict=True)):
        if value >= target:
            if number == 0 or best == -inf:
                return now
            before = clock[number - 1]
            return before + (now - before) * (target - best) / (value - best)
        best = max(best, value)
    return inf


@given(st.lists(st.tuples(st.floats(0.1, 10), numbers), min_size=1, max_size=12), st.floats(-5, 5))
def test_the_time_to_a_target_is_that_of_a_plain_loop(steps: list[tuple[float, float]], target: float) -> None:
    clock = np.cumsum([step for step, _ in steps])
    metric = [value for _, value in steps]
    assert time_to(clock, np.array(metric), target) == pytest.approx(naive_time_to(clock.tolist(), metric, target))


@given(st.lists(numbers, min_size=1, max_size=12), st.floats(-5, 5), st.floats(0, 3))
def test_a_harder_target_is_never_reached_earlier(metric: list[float], target: float, harder: float) -> None:
    clock = np.arange(len(metric), dtype=float)
    assert time_to(clock, np.array(metric), target) <= time_to(clock, np.array(metric), target + harder) + 1e-9


def test_a_straight_line_is_met_where_it_crosses() -> None:
    assert time_to(np.array([0.0, 100.0]), np.array([10.0, 90.0]), 50.0) == 50.0
    assert time_to(np.array([0.0, 100.0]), np.array([10.0, 90.0]), 90.5) == inf
    assert time_to(np.array([0.0, 1.0, 2.0]), np.array([0.0, 5.0, 1.0]), 5.0) == 1.0


def test_misses_are_infinite_in_medians_and_censored_in_the_survival_curve() -> None:
    found = Times(np.array([[10.0], [20.0], [inf], [inf], [inf]]), np.full(5, 100.0))
    assert found.medians == [inf]
    expected = [0, 0, 10, 0.2, 20, 0.4, 100, 0.4]
    assert [number for step in share_reached(found, 0) for number in step] == pytest.approx(expected)
    assert middle(np.array([-inf, inf])) == 0.0
    assert middle(np.array([1.0, 3.0])) == 2.0


def test_a_run_that_stopped_early_but_well_leaves_the_others_at_risk() -> None:
    found = Times(np.array([[10.0], [inf], [30.0], [40.0]]), np.array([50.0, 20.0, 50.0, 50.0]))
    # Kaplan–Meier by hand: 1 − 3/4, then one at 20 is censored: 1 − 3/4 · 1/2, and 1.
    assert [share for _, share in share_reached(found, 0)] == pytest.approx([0, 0.25, 0.625, 1, 1])


def test_a_failed_run_is_censored_at_the_end_of_a_whole_run() -> None:
    assert ends([30.0, 300.0], [False, True], whole=310.0).tolist() == [310.0, 300.0]


def test_the_log_rank_test_is_that_of_its_own_formula() -> None:
    one = Times(np.array([[3.0], [5.0], [7.0], [inf]]), np.full(4, 10.0))
    other = Times(np.array([[6.0], [8.0], [inf], [inf]]), np.full(4, 10.0))
    events = sorted([(t, 0) for t in (3, 5, 7)] + [(t, 1) for t in (6, 8)])
    at_risk, observed, expected, variance = [4, 4], 0, 0.0, 0.0
    for _, group in events:
        n = sum(at_risk)
        observed += group == 0
        expected += at_risk[0] / n
        variance += at_risk[0] * at_risk[1] / n**2
        at_risk[group] -= 1
    z = (observed - expected) / variance**0.5
    assert log_rank(one, other, 0) == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_a_target_that_nobody_reaches_has_no_log_rank_test() -> None:
    nobody = Times(np.full((3, 1), inf), np.full(3, 10.0))
    assert log_rank(nobody, nobody, 0) is None


@given(times)
def test_log_speed_ups_are_those_of_a_plain_loop(pair: tuple[list[list[float]], list[list[float]]]) -> None:
    for found, ours, theirs in zip(log_speed_ups(*map(np.sort, map(np.array, pair))), *pair, strict=True):
        logs = [
            -inf if a == inf else inf if b == inf else math.log(b / a)
            for a, b in zip(sorted(ours), sorted(theirs), strict=True)
            if not a == b == inf
        ]
        assert found == pytest.approx(sum(logs) / len(logs) if logs else math.nan, nan_ok=True)


@given(st.lists(st.floats(-3, 3) | st.sampled_from([-inf, inf]), min_size=6, max_size=30), st.sampled_from([0.9, 0.95]))
def test_the_sign_interval_is_scipys(values: list[float], confidence: float) -> None:
    found, reached = sign_interval(np.array(values), confidence)
    # scipy's cannot order infinities by themselves, but order statistics keep their places.
    finite = np.nan_to_num(np.array(values), posinf=100, neginf=-100)
    expected = stats.quantile_test(finite).confidence_interval(confidence)
    assert reached >= confidence
    clipped = np.clip([found.low, found.high], -100, 100)
    assert clipped.tolist() == [expected.low, expected.high]


def test_too_few_seeds_say_the_confidence_they_have() -> None:
    found, reached = sign_interval(np.array([1.0, 2.0, 3.0, 4.0]), 0.95)
    assert (found.low, found.middle, found.high) == (1.0, 2.5, 4.0)
    assert reached == pytest.approx(1 - 2 / 2**4)
    resolved = speed_up(np.full((4, 1), 10.0), np.full((4, 1), 20.0), comparisons=1)
    assert resolved is not None
    assert resolved.verdict == "not resolved"
    assert resolved.ratio.middle == pytest.approx(2.0)


@given(times)
def test_swapping_the_sides_mirrors_the_speed_up(pair: tuple[list[list[float]], list[list[float]]]) -> None:
    mirrored = {"better": "worse", "worse": "better", "tie": "tie", "not resolved": "not resolved"}
    ours, theirs = (np.sort(np.array(part)) for part in pair)
    one, other = speed_up(ours, theirs, 1), speed_up(theirs, ours, 1)
    if one is None or other is None:
        assert one is other
        return
    assert one.verdict == mirrored[other.verdict]
    assert one.ratio.low * other.ratio.high == pytest.approx(1) or (one.ratio.low in (0, inf))
    assert one.seeds == other.seeds


def test_who_misses_a_target_is_slower_and_who_misses_none_is_infinitely_faster() -> None:
    reached, missed = np.full((8, 2), 10.0), np.column_stack([np.full(8, 10.0), np.full(8, inf)])
    slower, faster = speed_up(missed, reached, 1), speed_up(reached, missed, 1)
    assert slower is not None
    assert faster is not None
    assert (slower.ratio.middle, slower.verdict) == (0.0, "worse")
    assert (faster.ratio.middle, faster.verdict) == (inf, "better")
    assert speed_up(np.full((8, 2), inf), np.full((8, 2), inf), 1) is None


def test_who_fails_more_often_is_never_called_faster() -> None:
    reference = np.full((25, 1), 20.0)
    candidate = np.where(np.arange(25) % 5 == 0, inf, 10.0)[:, None]  # twice as fast, and one seed in five diverges
    assert speed_up(candidate, reference, 1).ratio.low == pytest.approx(2.0)
    assert speed_up(candidate, reference, 1, more_failures=5).verdict == "not resolved"
    assert speed_up(candidate[:10], reference[:10], 1, more_failures=0).verdict == "not resolved"


def curves(draw: np.random.Generator, seeds: int, speed: float = 1.0) -> np.ndarray:
    """Times of noisy exponential approaches to four levels: time constants vary by 8 % from seed to seed, times by 3 % more."""
    constants = draw.lognormal(0, 0.08, (seeds, 1)) / speed
    levels = -np.log(1 - np.array([0.5, 0.7, 0.85, 0.95]))
    return 100 * constants * levels * draw.lognormal(0, 0.03, (seeds, len(levels)))


def test_a_planted_speed_up_of_a_tenth_is_found() -> None:
    draw = np.random.default_rng(0)
    found = [speed_up(curves(draw, 20, speed=10 / 9), curves(draw, 20), 1) for _ in range(100)]
    assert sum(each is not None and each.verdict == "better" for each in found) >= 80
    assert np.median([each.ratio.middle for each in found if each]) == pytest.approx(10 / 9, rel=0.02)


def test_two_copies_of_an_optimizer_are_a_tie() -> None:
    """In one study they share networks and batches, so their runs are the same to the bit, and with them every number."""
    draw = np.random.default_rng(1)
    for _ in range(100):
        reached = curves(draw, 10)
        found = speed_up(reached, reached.copy(), 1)
        assert found is not None
        assert found.verdict == "tie"
        values = draw.normal(95, 0.7, 10)
        assert compare(values, values.copy(), margin=0.5).verdict == "tie"


def test_two_copies_on_seeds_of_their_own_are_hardly_ever_told_apart() -> None:
    """Without pairing noise remains: an interval that excludes 1 is a false finding, of which five in a hundred are allowed."""
    draw = np.random.default_rng(2)
    found = [speed_up(curves(draw, 10), curves(draw, 10), 1) for _ in range(1000)]
    false = sum(each is not None and not each.ratio.low <= 1 <= each.ratio.high for each in found)
    assert false / 1000 < 0.05
    verdicts = [compare(*draw.normal(95, 0.7, (2, 10)), margin=0.5).verdict for _ in range(1000)]
    assert sum(verdict in ("better", "worse") for verdict in verdicts) / 1000 < 0.05 + 0.02
    assert MARGIN < 10 / 9
