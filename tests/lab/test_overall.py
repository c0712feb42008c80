"""Expected best of k, performance profiles and scores against naive versions; and no table that favours who fails."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import ended, made_up
from scipy import stats
from test_report import data_of

from thalweg.lab.analysis import Analysis
from thalweg.lab.contract import Contract, EntryTerms, TaskTerms
from thalweg.lab.lights import VERIFIED, lights
from thalweg.lab.overall import Overall
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.report import write_report
from thalweg.lab.report.times import overall_rows
from thalweg.lab.show import sped_up, unresolved
from thalweg.lab.space import ENTRIES
from thalweg.lab.statistics.bestof import expected_best
from thalweg.lab.statistics.profiles import MOST, area, profile, ratios
from thalweg.lab.statistics.scores import interquartile_mean, interquartile_mean_over_tasks, scores
from thalweg.lab.store import Store

inf = math.inf
TASK = TaskTerms(
    name="task", summary="made up", data_hash="0", parameters=1, batch_size=1, budget=100, metric="accuracy", unit="%",
    better="max", margin=0.5, targets=(40.0, 60.0, 80.0),
)  # fmt: skip


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5))
def test_the_expected_best_is_the_mean_over_all_draws(values: list[float]) -> None:
    found = expected_best(np.array(values))
    for k in range(1, len(values) + 1):
        draws = [max(draw) for draw in itertools.product(values, repeat=k)]
        assert found[k - 1] == pytest.approx(np.mean(draws), abs=1e-9)


@given(st.lists(st.lists(st.floats(1, 100) | st.just(inf), min_size=6, max_size=6), min_size=2, max_size=5))
def test_a_profile_is_the_share_of_problems_within_a_factor(rows: list[list[float]]) -> None:
    times = np.array(rows)
    weights = np.array([1, 2, 3, 4, 5, 6]) / 21
    for own, found in zip(rows, ratios(times), strict=True):
        fastest = [min(column) for column in zip(*rows, strict=True)]
        steps = profile(found, weights)
        for tau, part in steps[::40]:
            low, high = (
                sum(w for t, best, w in zip(own, fastest, weights, strict=True) if t < inf and t <= factor * best)
                for factor in (tau * (1 - 1e-9), tau * (1 + 1e-9))  # a ratio of exactly τ may be rounded to either side
            )
            assert low - 1e-9 <= part <= high + 1e-9
        logs, parts = np.log([tau for tau, _ in steps]) / np.log(MOST), [part for _, part in steps]
        assert area(found, weights) == pytest.approx(np.trapezoid(parts, logs), abs=0.01)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=25))
def test_the_interquartile_mean_is_scipys_trimmed_one(values: list[float]) -> None:
    assert interquartile_mean(np.array(values)) == pytest.approx(stats.trim_mean(values, 0.25))


def test_failures_reach_into_the_interquartile_mean_beyond_a_quarter() -> None:
    assert interquartile_mean(np.array([-inf, 1.0, 2.0, 3.0])) == 1.5
    assert interquartile_mean(np.array([-inf, -inf, 2.0, 3.0])) == -inf
    assert scores(np.array([-inf, 10.0, 55.0, 100.0]), untrained=10.0, goal=100.0).tolist() == [0, 0, 0.5, 1]


def test_the_interval_of_the_scores_agrees_with_scipys_bootstrap() -> None:
    draw = np.random.default_rng(0)
    sample = draw.normal(size=30)
    found = interquartile_mean_over_tasks([sample])
    expected = stats.bootstrap(
        (sample,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), method="percentile", rng=1
    )
    interval = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.05)


def contract(names: list[str], seeds: int, **changes: object) -> Contract:
    entries = [
        EntryTerms(entry=ENTRIES["adamw"].model_copy(update={"name": name}), points=[{"lr": 0.1}]) for name in names
    ]
    return Contract(
        suite="tasks", tasks=[TASK.model_copy(update=changes)], optimizers=entries, trials=1, tuning_seeds=[0],
        final_seeds=list(range(1000, 1000 + seeds)),
    )  # fmt: skip


def end_at(value: float, state: str = "ok") -> tuple[Result, CurvePoint]:
    result, last = ended(1.0, value, state=state)
    return result.model_copy(update={"untrained": 10.0}), last


@pytest.fixture(scope="module")
def reckless(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """Fast and good, but one seed in five diverges."""

    def end(config: RunConfig) -> tuple[Result, CurvePoint]:
        if config.optimizer == "reckless":
            fails = config.phase == "final" and config.seed % 5 == 0
            return end_at(99.0, "diverged" if fails else "ok")
        return end_at({"adamw": 90.0, "momentum": 85.0}[config.optimizer] + config.seed % 3 / 10)

    folder = tmp_path_factory.mktemp("reckless") / "study"
    return Analysis.of(made_up(folder, contract(["adamw", "momentum", "reckless"], 25), end))


def test_who_diverges_on_one_seed_in_five_is_called_better_by_no_table(reckless: Analysis) -> None:
    cell = reckless.cell("task", "reckless")
    assert cell.failures == 5
    for reference in ("adamw", "momentum"):
        comparison, faster = reckless.comparison(cell, reference), reckless.speed_up(cell, reference)
        assert comparison is not None
        assert faster is not None
        assert comparison.verdict != "better"
        assert faster.verdict != "better"
    assert reckless.leader("task") is reckless.cell("task", "adamw")
    rows = {row["name"]: row for row in overall_rows(reckless, Overall(reckless))}
    assert rows["reckless"]["failures"] == 5
    assert not rows["reckless"]["best_score"]
    assert not rows["reckless"]["best_area"]
    assert rows["adamw"]["best_score"]
    assert rows["adamw"]["best_area"]
    # In the curve of arrivals one seed in five never comes, however early the others do.
    path = write_report(reckless)
    (task,) = data_of(path.read_text(encoding="utf-8"))["tasks"]
    arrivals = {row["optimizer"]: row["charged"][-1]["y"][-1] for row in task["reached"]}
    assert arrivals == {"adamw": 1.0, "momentum": 1.0, "reckless": 0.8}
    text = (path.parent / "report.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| reckless"))
    assert "(5 failed)" in row
    assert "▲" not in row


def test_an_optimizer_that_always_fails_still_has_a_report(tmp_path: Path) -> None:
    def end(config: RunConfig) -> tuple[Result, CurvePoint]:
        return end_at(50.0, "diverged" if config.optimizer == "adamw" else "ok")

    analysis = Analysis.of(made_up(tmp_path / "study", contract(["adamw", "momentum"], 3), end))
    write_report(analysis)
    assert analysis.cell("task", "adamw").times["charged"].medians == [inf] * 3
    found = analysis.speed_up(analysis.cell("task", "momentum"), "adamw")
    assert found is not None
    assert sped_up(found) == "∞ ×"


def test_one_seed_and_no_reference_have_a_report(tmp_path: Path) -> None:
    write_report(Analysis.of(made_up(tmp_path / "one", contract(["adamw", "momentum"], 1), lambda _: end_at(90.0))))
    path = write_report(Analysis.of(made_up(tmp_path / "none", contract(["sgd"], 3), lambda _: end_at(90.0))))
    assert "No reference optimizer takes part" in path.read_text(encoding="utf-8")


def test_without_an_improvement_to_measure_by_there_is_no_score_and_the_report_says_so(tmp_path: Path) -> None:
    terms = contract(["adamw", "momentum"], 3, targets=())
    path = write_report(Analysis.of(made_up(tmp_path / "study", terms, lambda _: end_at(9.0))))  # untrained: 10
    text = (path.parent / "report.md").read_text(encoding="utf-8")
    for said in (path.read_text(encoding="utf-8"), text):
        assert "There are no scores: what would score 1 is no better than the untrained network on task." in said
    row = next(line for line in text.partition("## All tasks together")[2].splitlines() if line.startswith("| adamw"))
    assert row.split(" | ")[1] == "–"


@pytest.mark.parametrize("seeds", range(1, 8))
def test_intervals_of_too_few_runs_are_said_to_be_too_narrow(tmp_path: Path, seeds: int) -> None:
    within = stats.binom.cdf(seeds - 1, seeds, 0.5) - stats.binom.cdf(0, seeds, 0.5)
    terms = contract(["adamw", "momentum"], seeds)
    found = unresolved(Analysis.of(made_up(tmp_path / "study", terms, lambda _: end_at(90.0))))
    said = [sentence for sentence in found if sentence.startswith("Bootstrap intervals of")]
    assert len(said) == (within < 0.95) == (seeds < 6)
    assert all(sentence.endswith(f"but in {100 * within:.0f} %.") for sentence in said)


def test_without_targets_the_report_says_how_to_get_them(tmp_path: Path) -> None:
    terms = contract(["adamw", "momentum"], 3, targets=())
    path = write_report(Analysis.of(made_up(tmp_path / "study", terms, lambda _: end_at(90.0))))
    assert "No targets were frozen for task" in path.read_text(encoding="utf-8")
    assert "thalweg targets task" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("trials", "level"), [(1, "amber"), (30, "red")])
def test_an_optimizer_worse_than_what_it_contains_lights_up(tmp_path: Path, trials: int, level: str) -> None:
    terms = contract(["adamw", "momentum"], 6)
    points = [{"lr": 0.1 + trial / 100} for trial in range(trials)]
    entered = [entry.model_copy(update={"points": points}) for entry in terms.optimizers]
    terms = terms.model_copy(update={"trials": trials, "optimizers": entered})
    worse = {"adamw": 80.0, "momentum": 90.0}
    analysis = Analysis.of(
        made_up(tmp_path / "study", terms, lambda run: end_at(worse[run.optimizer] + run.seed / 1e4))
    )
    (light,) = [light for light in lights(analysis) if light.title == "Inclusion violated"]
    assert light.level == level
    assert "adamw is worse than momentum on task" in light.detail
    assert "in a limit of eps, " + {"red": "searched", "amber": "fixed"}[level] in light.detail


@pytest.mark.parametrize(
    ("text", "level", "title"),
    [
        (None, "amber", "References not reproduced"),
        ("{", "amber", "References not reproduced"),
        (json.dumps({"passed": True, "date": "2026-01-01", "failed": []}), "green", "References reproduced"),
        (json.dumps({"passed": False, "date": "2026-01-01", "failed": ["digits"]}), "red", "References not reproduced"),
    ],
)
def test_the_references_light_reads_what_verify_found(tmp_path: Path, text: str | None, level: str, title: str) -> None:
    store = Store.create(tmp_path / "study", contract(["adamw"], 1))
    if text is not None:
        (store.folder / VERIFIED).write_text(text)
    (light,) = [light for light in lights(Analysis.of(store)) if light.title.startswith("References")]
    assert (light.level, light.title) == (level, title)
