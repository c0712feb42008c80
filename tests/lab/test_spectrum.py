"""`thalweg spectrum`: its numbers against other code, its page in a browser, its refusals."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import CHROMIUM, Page, opened
from commands import Command, start
from oracle import largest

from thalweg.control import Decision, Steered
from thalweg.control.probe import Probe as Measurement
from thalweg.lab.plain import plain
from thalweg.lab.run import Trainer
from thalweg.lab.space import entry
from thalweg.lab.spectrum.decisions import MEANINGS, price, rates, shares
from thalweg.lab.spectrum.page import as_data, write_spectrum
from thalweg.lab.spectrum.record import Recording, Request
from thalweg.lab.spectrum.run import Watched

SHORT = ["digits-mlp", "--lr", "0.3", "--steps", "12", "--every", "5", "-k", "3"]
FIGURES = 6
GOVERNED = ["digits-mlp", "-o", "dcao", "--lr", "3", "--steps", "60", "--every", "20", "-k", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run's page and what it printed, to be read only."""
    folder = tmp_path_factory.mktemp("spectrum")
    process = start("spectrum", *SHORT, "--output", "page.html", "--json", cwd=folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (folder / "printed.json").write_text(out, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "printed.json").read_text())


def watched(optimizer: str, steps: int = 6, task: str = "digits-mlp", lr: float | None = None) -> Watched:
    run = Watched(Request.of(task, optimizer, lr, steps, 3, 2, 0))
    run.run(lambda recording: None)
    return run


def test_eigenvalues_are_scipys_and_training_is_undisturbed(printed: dict[str, Any]) -> None:
    unwatched = Watched(Request.of("digits-mlp", "sgd", 0.3, 12, 5, 3, 0)).trainer
    assert [unwatched.step() for _ in range(12)] == printed["losses"]
    inputs, targets = unwatched.task.probe
    assert len(inputs) == printed["probe_examples"] == 1077
    loss = torch.nn.functional.cross_entropy(unwatched.model(inputs), targets)
    top = largest(loss, unwatched.model, 3)
    last = printed["probes"][-1]
    assert last["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert np.all(np.abs(np.array(last["eigenvalues"]) - top) <= np.array(last["residuals"]))
    assert last["edge"]["sharpness"] == pytest.approx(top[0], rel=1e-3)


def test_every_probe_compares_with_two_over_lr(printed: dict[str, Any]) -> None:
    assert "decisions" not in printed
    assert [probe["step"] for probe in printed["probes"]] == [0, 5, 10, 12]
    for probe in printed["probes"]:
        edge = probe["edge"]
        assert edge["threshold"] == pytest.approx(2 / 0.3)
        assert edge["ratio"] == pytest.approx(edge["sharpness"] * 0.3 / 2)
        assert probe["batch_sharpness"] is not None
        assert probe["eigenvalues"] == sorted(probe["eigenvalues"], reverse=True)
    ratios = [probe["edge"]["ratio"] for probe in printed["probes"]]
    assert printed["settled_ratio"] == pytest.approx(np.median(ratios[2:]))


def test_portraits_are_of_start_and_end(printed: dict[str, Any]) -> None:
    assert [portrait["step"] for portrait in printed["portraits"]] == [0, 12]
    for portrait, probe in zip(printed["portraits"], (printed["probes"][0], printed["probes"][-1]), strict=True):
        x, height = np.array(portrait["grid"]), np.array(portrait["values"])
        assert np.trapezoid(height, x) == pytest.approx(1, abs=0.01)
        assert list(portrait["layers"]) == ["0", "2", "4"]
        assert max(portrait["layers"].values()) <= probe["eigenvalues"][0] * 1.0001  # interlacing


def test_an_optimizer_that_preconditions_is_seen_through_its_preconditioner() -> None:
    run = watched("adam", lr=1e-3)
    first, *rest = run.recording.probes
    assert first.edge is None  # no second moment yet
    for probe in rest:
        assert probe.edge is not None
        assert probe.edge.threshold == pytest.approx(38e3)
        assert probe.edge.sharpness > 10 * probe.eigenvalues[0]
        assert probe.batch_sharpness is None
    assert run.recording.why_no_threshold == ""


class Halved:
    """A policy that is known: half of what was asked for, and now and then a note."""

    next_probe = 10**9

    def decide(self, step: int, asked: float, probe: Measurement | None, norm: Callable[[], float]) -> Decision:
        return Decision(
            step=step,
            asked=asked,
            used=asked / 2,
            active="slew" if step % 3 == 2 else "direction",
            bounds={"direction": asked / 2, "slew": asked},
            factors={"lr": 0.5},
            sharpness=4.0,
            ratio=asked,
            cost=1.5 if step == 0 else 0.0,
            note="odd" if step in (1, 3) else "",
        )

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        """Nothing is held."""


def halved(optimizer: str, lr: float) -> Recording:
    run = Watched(Request.of("digits-mlp", optimizer, lr, 6, 3, 2, 0))
    assert isinstance(run.optimizer, Steered)
    run.optimizer.policy = Halved()
    run.run(lambda recording: None)
    assert run.optimizer.param_groups[0]["lr"] == lr
    return run.recording


@pytest.fixture(scope="module")
def governed() -> Recording:
    return halved("dcao", 0.2)


@pytest.mark.parametrize(("optimizer", "plain", "lr"), [("dcao", "momentum", 0.2), ("dcao_adamw", "adamw", 2e-3)])
def test_a_governed_run_is_seen_at_the_learning_rate_that_it_used(
    optimizer: str, plain: str, lr: float, governed: Recording
) -> None:
    governed, same = governed if optimizer == "dcao" else halved(optimizer, lr), watched(plain, lr=lr / 2).recording
    assert governed.losses == same.losses
    assert governed.probes[0].edge is None  # nothing is decided yet
    for seen, expected in zip(governed.probes[1:], same.probes[1:], strict=True):
        assert replace(seen, edge=None) == replace(expected, edge=None)
        assert seen.edge is not None
        assert expected.edge is not None
        assert seen.edge.ratio == pytest.approx(expected.edge.ratio, rel=1e-3)
        assert seen.edge.threshold == pytest.approx(expected.edge.threshold, rel=1e-6)
        assert governed.thresholds == pytest.approx([expected.edge.threshold] * 6, rel=1e-6)


def test_decisions_are_told_as_they_were(governed: Recording) -> None:
    told = plain(as_data(governed))
    assert isinstance(told, dict)
    found: Any = told["decisions"]
    assert found["asked"] == [0.2] * 6
    assert found["used"] == [0.1] * 6
    assert found["active"] == ["direction", "direction", "slew"] * 2
    assert found["bounds"] == {"direction": [0.1] * 6, "slew": [0.2] * 6}
    assert found["residual"] == [None] * 6
    assert found["note"] == ["", "odd", "", "odd", "", ""]
    assert governed.notes == ["Step 2 and 1 more: odd."]
    assert shares(governed.decisions) == [("direction", 4 / 6), ("slew", 2 / 6)]
    assert rates(governed.decisions) == "Learning rate 0.2 asked for, 0.1 used."
    assert price(governed.decisions).startswith("Measuring at 1 of 6 steps cost 1.5 gradient-equivalents, 25.0%")


@pytest.mark.parametrize("optimizer", ["dcao", "hidlr"])
def test_watching_a_controller_does_not_disturb_it(optimizer: str) -> None:
    run = watched(optimizer, steps=9)
    unwatched = Watched(run.request).trainer
    assert [unwatched.step() for _ in range(9)] == run.recording.losses
    assert isinstance(unwatched.optimizer, Steered)
    assert [str(one) for one in unwatched.optimizer.history] == [
        str(one) for one in run.recording.decisions
    ]  # NaN ≠ NaN


def test_a_ceiling_is_by_default_the_end_of_the_range() -> None:
    chosen = {name: Request.of("digits-mlp", name, None, 1, 1, 1, 0) for name in ("momentum", "dcao", "hidlr")}
    assert chosen["dcao"].lr == entry("dcao").space["lr"].high
    assert chosen["dcao"].rule == "dcao, η ≤ 1, momentum 0.9"
    assert chosen["momentum"].lr == entry("momentum").space["lr"].at(0.5)
    assert chosen["hidlr"].lr == entry("hidlr").space["lr"].at(0.5)  # it begins there
    assert chosen["hidlr"].rule.startswith("hidlr, η 0.00562, ")


def test_what_an_optimizer_warns_of_when_it_is_made_is_in_the_summary(command: Command) -> None:
    done = command("spectrum", "digits-mlp", "-o", "dcao_exponential", "--lr", 0.01, "--steps", 1, "-k", 1)
    assert done.returncode == 0
    assert "warning: DCAO: lr=0.01 is below" in done.stdout
    assert "DCAO: lr=0.01 is below" in Path("spectrum-digits-mlp-dcao_exponential.html").read_text()


def test_terminal_lines_of_a_governed_run(command: Command) -> None:
    done = command("spectrum", *GOVERNED, "--output", "page.html")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("dcao, η ≤ 3, momentum 0.9 on digits-mlp")
    assert lines[1].split()[-7:] == ["η", "used", "held", "by", "sharpness", "threshold", "ratio"]
    for line in lines[3:6]:
        used, by, sharpness, threshold, ratio = line.split()[3:8]
        assert by in MEANINGS
        assert float(used) < 3
        assert float(threshold) == pytest.approx(3.8 / float(used), rel=0.01)
        assert float(ratio) == pytest.approx(float(sharpness) / float(threshold), abs=0.01)
    assert any(line.startswith("Learning rate 3 asked for, ") for line in lines)
    parts = [float(line.split()[1].removesuffix("%")) for line in lines if line.split()[0] in MEANINGS]
    assert sum(parts) == pytest.approx(100, abs=0.3)


@pytest.mark.parametrize("optimizer", ["lbfgs", "newton_cg"])
def test_an_optimizer_without_a_threshold_shows_its_spectrum_and_says_why(command: Command, optimizer: str) -> None:
    done = command("spectrum", "digits-mlp", "-o", optimizer, "--steps", 2, "-k", 1)
    assert done.returncode == 0
    assert "No stability threshold to compare with" in done.stdout
    assert Path(f"spectrum-digits-mlp-{optimizer}.html").exists()


def test_terminal_lines(command: Command) -> None:
    done = command("spectrum", "digits-mlp", "-o", "nesterov", "--steps", 4, "--every", 2, "-k", 2)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("nesterov, η 0.0178, momentum 0.9, nesterov True on digits-mlp")
    assert [line.split()[0] for line in lines[2:5]] == ["0", "2", "4"]
    assert len({line.index("│") for line in lines[2:5]}) == 1
    assert lines[-1] == "Page: spectrum-digits-mlp-nesterov.html"


def test_quiet_prints_nothing(command: Command, tmp_path: Path) -> None:
    done = command("spectrum", "digits-mlp", "--steps", 1, "-k", 1, "-q", "--output", tmp_path / "sub" / "a.html")
    assert done == (0, "", "")
    assert (tmp_path / "sub" / "a.html").exists()


def interrupt_after(steps: int) -> Callable[[Trainer], float]:
    step = Trainer.step

    def interrupted(trainer: Trainer) -> float:
        if trainer.steps == steps:
            raise KeyboardInterrupt
        return step(trainer)

    return interrupted


def test_stopped_it_shows_what_there_is(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "step", interrupt_after(7))
    done = command("spectrum", *SHORT, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 130
    assert found["state"] == "stopped"
    assert [probe["step"] for probe in found["probes"]] == [0, 5]
    assert [portrait["step"] for portrait in found["portraits"]] == [0]
    assert "Stopped after 7 of 12 steps." in Path(found["page"]).read_text()


def test_stopped_before_anything_there_is_no_page(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(watched: Watched) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Watched, "probe", interrupted)
    done = command("spectrum", *SHORT)
    assert done.returncode == 130
    assert "nothing to show" in done.stderr
    assert list(Path().iterdir()) == []


def test_a_diverged_run_says_so(command: Command) -> None:
    done = command("spectrum", "digits-autoencoder", "--lr", "1e30", "--steps", 5, "-k", 1, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["state"] == "diverged"
    assert found["steps"] < 5
    assert "Diverged" in Path(found["page"]).read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits-mlpp"], ["task 'digits-mlpp' is unknown", "Did you mean digits-mlp"]),
        (["digits-mlp", "-o", "adamv"], ["optimizer 'adamv' is unknown", "Did you mean adam"]),
        (["digits-mlp", "--lr", "fast"], ["--lr is 'fast'; it must be a number"]),
        (["digits-mlp", "--lr", "-1"], ["--lr is -1", "above 0"]),
        (["digits-mlp", "--lr", "nan"], ["--lr is nan", "above 0"]),
        (["digits-mlp", "--steps", "0"], ["--steps is 0"]),
        (["digits-mlp", "--steps", "5", "--every", "6"], ["--every is 6", "between 1 and 5"]),
        (["digits-mlp", "-k", "0"], ["-k is 0"]),
        (["digits-mlp", "--output", "page.txt"], ["--output is page.txt", "must end in .html"]),
        (["digits-mlp", "--output", "/proc/nowhere/a.html"], ["--output /proc/nowhere/a.html cannot be written"]),
    ],
)
def test_a_bad_request_is_one_clear_message_and_changes_nothing(
    command: Command, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    done = command("spectrum", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_page_holds_plotly_once_and_asks_for_nothing(folder: Path) -> None:
    html = (folder / "page.html").read_text()
    assert html.count("plotly.js v") <= 1
    assert "<script src" not in html
    assert '<link rel="stylesheet"' not in html


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH")
    with opened(folder / "page.html", tmp_path_factory.mktemp("profile")) as shown:
        yield shown


def test_every_figure_is_drawn_and_has_its_data(page: Page) -> None:
    drawn = "[...document.querySelectorAll('.plot')].filter((plot) => plot.querySelector('.main-svg')).length"
    assert page.run(drawn) == page.run("document.querySelectorAll('.figure button').length") == FIGURES
    page.run("globalThis.saved = []; globalThis.download = (name, rows) => saved.push([name, rows])")
    page.run("document.querySelectorAll('.figure button').forEach((button) => button.click())")
    saved: dict[str, list[list[Any]]] = dict(page.run("saved"))
    assert len(saved) == FIGURES
    assert [row[0] for row in saved["Sharpness against the stability threshold.csv"]] == ["step", 0, 5, 10, 12]
    assert len(saved["Loss.csv"]) == 1 + 13
    assert all(len(set(map(len, rows))) == 1 for rows in saved.values())


def test_it_follows_the_colour_scheme(page: Page) -> None:
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.run(ink)
    page.scheme("dark")
    page.wait(f"{ink} !== '{light}'")
    page.scheme("light")


def test_headings_do_not_skip_and_a_phone_scrolls_only_down(page: Page) -> None:
    levels = page.run("[...document.querySelectorAll('h1, h2, h3')].map((heading) => +heading.tagName[1])")
    assert all(after <= before + 1 for before, after in pairwise(levels))
    page.size(390, 800)
    page.wait("document.documentElement.scrollWidth <= 390")
    page.size(1280, 900)


STRIP = "document.querySelector('#control-figure .plot').data.find((trace) => trace.type === 'heatmap')"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_the_page_of_a_governed_run_shows_what_held_it(governed: Recording, tmp_path: Path) -> None:
    with opened(write_spectrum(tmp_path / "page.html", governed), tmp_path / "profile") as page:
        assert page.run("document.querySelectorAll('.figure button').length") == FIGURES + 1
        assert page.run(f"{STRIP}.text[0]") == ["direction", "direction", "slew"] * 2
        drawn = page.run("document.querySelector('#control-figure .plot').data.map((trace) => trace.name)")
        assert {"asked for", "used", "direction", "slew", "threshold", "its λ̂", "sharpness"} <= set(drawn)
        assert page.run("[...document.querySelectorAll('.bound b')].map((share) => share.textContent)") == [
            "66.7%",
            "33.3%",
        ]
        assert page.run("document.querySelector('.note').textContent") == governed.notes[0]
        page.run("globalThis.saved = []; globalThis.download = (name, rows) => saved.push(rows)")
        page.run("document.querySelector('#control-figure button').click()")
        header, *rows = page.run("saved[0]")
        assert [row[header.index("used")] for row in rows] == [0.1] * 6
        assert [row[header.index("step")] for row in rows] == list(range(1, 7))
