"""The search spaces: equal, fixed in advance, valid for every optimizer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import thalweg
from thalweg.lab.space import DEFAULT_OPTIMIZERS, ENTRIES, LR_DECADES, Entry, Range, Schedule, points, tuned_names

entries = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


@entries
def test_every_learning_rate_range_has_equal_decades(entry: Entry) -> None:
    assert math.log10(entry.space["lr"].high / entry.space["lr"].low) == pytest.approx(LR_DECADES)


@entries
@pytest.mark.parametrize("trials", [1, 9, 10, 25, 26, 40])
def test_points_lie_inside_and_what_is_tuned_depends_on_their_number(entry: Entry, trials: int) -> None:
    found = points(entry, trials)
    assert len(found) == trials
    dimensions = 1 if trials < 10 else 2 if trials <= 25 else 3
    assert list(found[0]) == list(entry.space)[:dimensions] == tuned_names(entry, trials)
    for point in found:
        assert all(entry.space[name].low <= value <= entry.space[name].high for name, value in point.items())


@entries
def test_fewer_trials_are_the_beginning_of_more(entry: Entry) -> None:
    assert points(entry, 5) == points(entry, 9)[:5]
    assert points(entry, 10) == points(entry, 25)[:10]


@entries
@pytest.mark.parametrize("trials", [1, 12, 30])
def test_every_point_makes_an_optimizer(entry: Entry, trials: int) -> None:
    for point in points(entry, trials):
        optimizer = thalweg.create(entry.rule, [torch.zeros(3, 2, requires_grad=True)], **entry.keywords(point))
        group = optimizer.param_groups[0]
        assert group["lr"] == point["lr"]
        if "beta1" in point:
            assert isinstance(fixed := entry.fixed["betas"], tuple)
            assert tuple(group["betas"]) == (point["beta1"], fixed[1])


def test_eight_learning_rates_leave_no_wide_gap() -> None:
    logs = np.sort(np.log10([point["lr"] for point in points(ENTRIES["sgd"], 8)]))
    assert np.diff(logs).max() < 1.5 * LR_DECADES / 8


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adamw", "rmsprop", "mars", "saveus", "dope", "dope_tuned"])
def test_optimizers_get_the_same_points_of_the_unit_cube(name: str) -> None:
    def unit(entry: Entry) -> list[float]:
        found = entry.space["lr"]
        return [math.log(point["lr"] / found.low) / math.log(found.high / found.low) for point in points(entry, 8)]

    assert unit(ENTRIES[name]) == pytest.approx(unit(ENTRIES["sgd"]))


@pytest.mark.parametrize("name", ["mars", "saveus", "exmachina", "dope"])
def test_what_an_entry_fixes_is_the_class_own_default(name: str) -> None:
    params = [torch.zeros(3, requires_grad=True)]
    entered, plain = (thalweg.create(name, params, **kw) for kw in (ENTRIES[name].keywords({}), {}))
    assert entered.defaults == plain.defaults


def test_dope_tuned_is_the_preset() -> None:
    params = [torch.zeros(3, requires_grad=True)]
    entered = thalweg.create("dope", params, **ENTRIES["dope_tuned"].keywords({"lr": 0.01}))
    assert entered.defaults == thalweg.DOPE(params, lr=0.01, preset="tuned").defaults


def test_adamw_clip_differs_from_adamw_by_its_clip_alone() -> None:
    plain, clipped = ENTRIES["adamw"], ENTRIES["adamw_clip"]
    assert clipped.fixed == plain.fixed | {"clip": 1.0}
    assert (clipped.rule, clipped.space, clipped.schedule) == (plain.rule, plain.space, plain.schedule)


def test_the_default_optimizers_are_those_of_the_first_comparison() -> None:
    assert DEFAULT_OPTIMIZERS == ("sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adamw")


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(["log", "log of 1-x"]))
def test_a_range_is_monotone_and_keeps_its_ends(unit: float, scale: str) -> None:
    found = Range(low=0.8, high=0.99, scale=scale)  # pyright: ignore[reportArgumentType]  # hypothesis draws a str
    assert found.at(0) == pytest.approx(0.8)
    assert found.at(1) == pytest.approx(0.99)
    assert 0.8 - 1e-12 <= found.at(unit) <= 0.99
    assert found.at(unit) <= found.at(min(unit + 0.1, 1)) + 1e-12


@given(st.floats(1e-6, 1))
def test_the_schedule_warms_up_then_falls_like_torchs(progress: float) -> None:
    factor = Schedule().factor(progress)
    assert 0 <= factor <= 1
    if progress < 0.05:
        assert factor == pytest.approx(progress / 0.05)
    else:
        assert factor == pytest.approx((1 + math.cos(math.pi * (progress - 0.05) / 0.95)) / 2)
    assert Schedule(shape="constant", warmup=0).factor(progress) == 1
