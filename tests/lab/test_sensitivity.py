"""The usable range of learning rates on curves whose width is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.lab.statistics.sensitivity import usable_range


def test_a_parabola_has_the_width_of_its_closed_form() -> None:
    rates = [10 ** (k / 50 - 4) for k in range(201)]
    found = usable_range([(lr, -(math.log10(lr / 1e-2) ** 2)) for lr in rates], tolerance=0.25)
    assert found is not None
    assert not found.open
    assert found.decades == pytest.approx(1.0, abs=0.01)  # −x² ≥ −0.25 for |x| ≤ 0.5
    assert math.sqrt(found.low * found.high) == pytest.approx(1e-2, rel=0.01)


def test_a_failed_neighbour_ends_the_range_at_the_last_that_worked() -> None:
    found = usable_range([(0.1, 1.0), (1.0, 1.1), (10.0, None), (100.0, 1.0)], tolerance=0.5)
    assert found is not None
    assert (found.low, found.high, found.open) == (0.1, 1.0, True)


def test_of_equally_good_trials_the_one_in_the_widest_range_counts() -> None:
    trials = [(0.01, 1.0), (0.1, 1.0), (1.0, 1.0), (10.0, None), (100.0, 1.0)]
    for order in (trials, [(1 / lr, value) for lr, value in trials]):
        found = usable_range(order, tolerance=0.5)
        assert found is not None
        assert found.decades == pytest.approx(2.0)


def test_nothing_is_usable_when_everything_failed() -> None:
    assert usable_range([(0.1, None), (1.0, None)], tolerance=1.0) is None


@given(st.lists(st.tuples(st.integers(-50, 50), st.none() | st.floats(-10, 10)), min_size=1, unique_by=lambda t: t[0]))
def test_the_range_holds_the_best_trial_and_lies_inside_the_tried_ones(trials: list[tuple[int, float | None]]) -> None:
    rated = [(10 ** (k / 10), value) for k, value in trials]
    found = usable_range(rated, tolerance=0.5)
    worked = [(value, lr) for lr, value in rated if value is not None]
    if not worked:
        assert found is None
        return
    assert found is not None
    assert min(lr for lr, _ in rated) <= found.low <= found.high <= max(lr for lr, _ in rated)
    assert any(value == max(worked)[0] and found.low <= lr <= found.high for value, lr in worked)
