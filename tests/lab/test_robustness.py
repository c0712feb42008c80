"""The sweep over the learning rate: its contract, its runs, and what is said of them."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, opened
from commands import Command
from made_up import ended, made_up

from thalweg.lab.analysis import Analysis
from thalweg.lab.contract import MULTIPLES, Contract, draw_up
from thalweg.lab.errors import UserError
from thalweg.lab.execution.workers import run_all
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.robustness.outcome import headlines, rows
from thalweg.lab.robustness.page import write_report
from thalweg.lab.robustness.show import COLUMNS, cells, gain
from thalweg.lab.robustness.sweep import Ending, Panel, panels
from thalweg.lab.run import execute
from thalweg.lab.space import ENTRIES
from thalweg.lab.store import RunFolder, Store
from thalweg.lab.study import ready

End = tuple[Result, CurvePoint]


def sweep(
    *optimizers: str,
    task: str = "digits-autoencoder",
    trials: int = 3,
    seeds: int = 2,
    multiples: tuple[float, ...] = MULTIPLES,
) -> Contract:
    entries = [ENTRIES[name] for name in optimizers or ("momentum", "dcao")]
    return draw_up("tasks", [task], entries, trials, seeds, "robustness").model_copy(update={"multiples": multiples})


def decades(config: RunConfig) -> float:
    """Where a run of a sweep lies, from the best learning rate."""
    return math.log10(MULTIPLES[config.trial]) if config.phase == "sweep" else 0.0


def valley(config: RunConfig) -> End:
    """Plain: a parabola. Steered: 2 % above its bottom, flat to the right."""
    x = decades(config)
    loss = 1 + x**2 if config.steering is None else 1.02 + min(x, 0) ** 2
    return ended(loss, loss)


def only_panel(store: Store) -> Panel:
    [panel] = panels(Analysis.of(store))
    return panel


# The contract and its runs.


def test_multiples_are_four_decades_in_halves_around_one() -> None:
    assert len(MULTIPLES) == 9
    assert MULTIPLES[4] == 1
    assert [math.log10(multiple) for multiple in MULTIPLES] == pytest.approx([k / 2 for k in range(-4, 5)])


def test_a_steered_optimizer_needs_the_plain_one() -> None:
    with pytest.raises(UserError, match=r"dcao_adamw without adamw.*add it: -o momentum,dcao,dcao_adamw,adamw"):
        sweep("momentum", "dcao", "dcao_adamw")


def test_only_plain_optimizers_are_tuned_and_all_sweep_the_same_learning_rates(tmp_path: Path) -> None:
    contract = sweep("dcao", "momentum", seeds=2)
    assert {(config.optimizer, config.phase) for config in ready(contract, {})} == {("momentum", "tuning")}
    best = contract.optimizer("momentum").points[1]["lr"]

    def second_is_best(config: RunConfig) -> End:
        loss = 0.5 if config.phase == "tuning" and config.trial == 1 else 1.0
        return ended(loss, loss)

    store = made_up(tmp_path / "study", contract, second_is_best)
    assert len(store.finished()) == contract.runs == 3 + 2 * 9 * 2
    panel = only_panel(store)
    for one in panel.sweeps:
        assert [run.config.point["lr"] for run in one.cell.finals[::2]] == pytest.approx([best * m for m in MULTIPLES])
        assert {run.config.seed for run in one.cell.finals} == set(contract.final_seeds)
        assert all(run.config.keywords["lr"] == run.config.point["lr"] for run in one.cell.finals)
    assert {run.config.steering is None for run in panel.plain.cell.finals} == {True}
    assert {run.config.steering is None for run in panel.steered[0].cell.finals} == {False}


def test_momentum_tuned_beside_the_learning_rate_is_kept_in_the_sweep(tmp_path: Path) -> None:
    contract = sweep(trials=10, seeds=1)
    panel = only_panel(made_up(tmp_path / "study", contract, valley))
    [point] = {run.config.keywords["momentum"] for one in panel.sweeps for run in one.cell.finals}
    assert point == contract.optimizer("momentum").points[0]["momentum"]


# What is said of them.


def test_widths_and_gain_are_those_computed_by_hand(tmp_path: Path) -> None:
    store = made_up(tmp_path / "study", sweep(), valley)
    plain, steered = rows([only_panel(store)])
    # The parabola passes 1.05 where the chord from (0, 1) to (½, 1.25) does, at a fifth of the half decade, on both sides.
    assert plain.width is not None
    assert (plain.width.decades, plain.width.open) == (pytest.approx(0.2), False)
    # To the left the chord from 1.02 to 1.27 passes 1.05 after 0.12 of the half decade; to the right all is usable.
    assert steered.width is not None
    assert (steered.width.decades, steered.width.open) == (pytest.approx(2.06), True)
    assert steered.gain is not None
    assert gain(steered.gain) == "≥ +1.86"
    assert steered.loss_ratio == pytest.approx(1.02)
    assert (plain.gain, plain.loss_ratio, plain.extra_gradients) == (None, None, None)


def test_evenly_bad_is_not_wide(tmp_path: Path) -> None:
    store = made_up(tmp_path / "study", sweep(), lambda config: ended(2.0, 2.0) if config.steering else valley(config))
    _, steered = rows([only_panel(store)])
    assert steered.width is not None
    assert steered.width.decades == 0
    assert "none" in cells(steered)


def test_within_a_point_of_the_best_accuracy_is_usable_whatever_the_loss(tmp_path: Path) -> None:
    def end(config: RunConfig) -> End:
        x = decades(config)
        return ended(1 + x**2, 95.0 - 2 * abs(x))

    plain, *_ = rows([only_panel(made_up(tmp_path / "study", sweep(task="digits-mlp"), end))])
    assert plain.width is not None
    assert plain.width.decades == pytest.approx(1.0)  # a point is lost after half a decade, on either side


def test_a_learning_rate_is_judged_by_its_median_seed(tmp_path: Path) -> None:
    def end(config: RunConfig) -> End:
        lost = {MULTIPLES.index(1) + 1: 1, MULTIPLES.index(1) + 2: 2}.get(config.trial, 0)
        if config.phase == "sweep" and config.seed < 1000 + lost:
            return ended(1.0, 1.0, highest=1e9, state="diverged")
        return ended(1.0, 1.0)

    plain = only_panel(made_up(tmp_path / "study", sweep("momentum", seeds=3), end)).plain
    assert plain.diverged == 3
    assert plain.losses == [1.0] * 6 + [math.inf] + [1.0] * 2
    [row] = rows(panels(Analysis.of(Store.open(tmp_path / "study"))))
    assert row.width is not None
    assert (row.width.decades, row.width.open) == (pytest.approx(2.5), True)


@pytest.mark.parametrize(
    ("end", "diverged", "loss"),
    [
        pytest.param(ended(1.0, 1.0), False, 1.0, id="learned"),
        pytest.param(ended(1.0, 1.0, highest=50.0), False, 1.0, id="spiked and came back"),
        pytest.param(ended(10.2, 10.2, highest=10.5, state="diverged"), False, 10.2, id="learned nothing"),
        pytest.param(ended(10.2, 10.2, highest=25.0, state="diverged"), True, math.inf, id="blew up"),
        pytest.param(ended(9.5, 9.5, highest=25.0), True, math.inf, id="blew up to a dead network"),
        pytest.param(ended(1.0, 1.0, highest=1001.0, state="diverged"), True, math.inf, id="stopped after learning"),
        pytest.param(ended(1.0, 1.0, state="crashed"), False, math.inf, id="broke"),
    ],
)
def test_a_crawl_is_not_a_divergence(end: End, diverged: bool, loss: float, tmp_path: Path) -> None:
    store = made_up(tmp_path / "study", sweep("momentum", trials=1, seeds=1), lambda _: end)
    [[found], *_] = only_panel(store).plain.endings
    assert found == Ending(
        1000, diverged, loss, pytest.approx(loss, nan_ok=True) if math.isfinite(loss) else found.value
    )


def test_a_loss_that_was_not_finite_diverged(tmp_path: Path) -> None:
    result, last = ended(1.0, 1.0, state="diverged")
    gone = (result.model_copy(update={"highest": None}), last)
    store = made_up(tmp_path / "study", sweep("momentum", trials=1, seeds=1), lambda _: gone)
    assert only_panel(store).plain.diverged == 9


def test_an_unfinished_sweep_claims_no_width(tmp_path: Path) -> None:
    store = made_up(tmp_path / "study", sweep(), valley)
    sorted(store.folder.rglob("dcao/sweep-*/result.json"))[0].unlink()
    found = rows([only_panel(store)])
    assert [(row.width, row.gain) for row in found] == [(None, None)] * 2
    assert headlines(found)[0].gain is None
    assert write_report(Analysis.of(store)).exists()


# Shown.


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up study with two plain optimizers, three steered ones and one that diverges."""

    def end(config: RunConfig) -> End:
        if config.optimizer in ("momentum", "adamw") and decades(config) >= 1:
            return ended(1.0, 1.0, highest=1e9, state="diverged")
        return valley(config)

    folder = tmp_path_factory.mktemp("robustness") / "study"
    contract = sweep("momentum", "dcao", "dcao_exponential", "adamw", "dcao_adamw")
    return write_report(Analysis.of(made_up(folder, contract, end)))


def test_the_markdown_has_a_row_for_each_optimizer_and_the_command(shown: Path) -> None:
    text = (shown.parent / "report.md").read_text(encoding="utf-8")
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert table[0] == list(COLUMNS)
    assert [row[1] for row in table[2:]] == ["momentum", "dcao", "dcao_exponential", "adamw", "dcao_adamw"]
    assert table[2][5] == "6/18"
    assert (
        "dcao over momentum: diverged 0/18 (plain 6/18); usable decades gained +1.86; loss at ×1 ÷ plain 1.020" in text
    )
    assert "--ruleset robustness -o momentum,dcao,dcao_exponential,adamw,dcao_adamw --trials 3 --seeds 2" in text
    assert re.search(r"torch \d.*Python 3", text)


@pytest.fixture(scope="module")
def page(shown: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH")
    with opened(shown, tmp_path_factory.mktemp("profile")) as found:
        yield found


def test_a_panel_for_each_plain_optimizer_with_its_crosses_and_bars(page: Page) -> None:
    assert page.run("document.querySelectorAll('#sweep-figures .plot .cartesianlayer').length") == 2
    traces = "[...document.querySelectorAll('.plot')].map((plot) => plot.data.filter((trace) => trace.yaxis === '{}'))"
    assert page.run(traces.format("y2") + ".map((bars) => bars.length)") == [3, 2]
    crosses = page.run(traces.format("y3") + ".map((lanes) => lanes.map((lane) => lane.x.length))")
    assert crosses == [[3, 0, 0], [3, 0]]


def test_the_page_follows_the_colour_scheme_and_fits_a_phone(page: Page) -> None:
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.run(ink)
    page.scheme("dark")
    page.wait(f"{ink} !== '{light}'")
    page.scheme("light")
    page.size(390, 800)
    page.wait("document.documentElement.scrollWidth <= 390")
    page.size(1280, 900)


def test_the_data_of_a_panel_can_be_saved(page: Page) -> None:
    page.run("globalThis.saved = null; HTMLAnchorElement.prototype.click = function () { saved = this.download; }")
    page.run("document.querySelector('#sweep-figures button').click()")
    assert page.run("saved") == "digits-autoencoder-momentum.csv"


# End to end.


@pytest.mark.usefixtures("inline")
def test_stopped_and_continued_it_ends_with_a_verdict(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiples = (1.0, 1e4)
    monkeypatch.setattr("thalweg.lab.contract.MULTIPLES", multiples)
    arguments = ["digits-mlp", "--ruleset", "robustness", "-o", "momentum,dcao", "--trials", 1, "--seeds", 1]
    folder = tmp_path / "study"
    store = Store.create(folder, sweep(task="digits-mlp", trials=1, seeds=1, multiples=multiples))
    running = run_all(store, 1)
    for _ in range(2):
        next(running)
    running.close()  # as Ctrl-C does
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    assert 2 <= len(before) < 5
    assert f"{len(before)} of 5 runs done" in command("status", folder).stdout

    done = command("compare", *arguments, "--store", folder, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert "Verdict (over the learning rate" in done.stdout
    assert re.search(r"dcao over momentum: diverged \d/2 \(plain 1/2\)", done.stdout)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}.items()

    outcome = json.loads(command("status", folder, "--json").stdout)
    assert outcome["complete"]
    plain, steered = outcome["rows"]
    assert (plain["over"], steered["over"]) == (None, "momentum")
    assert (plain["runs"], steered["runs"]) == (2, 2)
    assert steered["extra_gradients"] > 0

    stored = sorted(folder.rglob("dcao/sweep-trial000-*/config.json"))[0]
    again = execute(
        RunConfig.model_validate_json(stored.read_bytes()), RunFolder(tmp_path / "again"), stop=lambda: False
    )
    kept = Result.model_validate_json((stored.parent / "result.json").read_bytes())
    assert again is not None
    assert again.model_dump(exclude={"seconds"}) == kept.model_dump(exclude={"seconds"})
    assert kept.highest is not None
    assert kept.loss is not None
    assert kept.highest > kept.loss
