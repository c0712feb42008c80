"""The ruleset that tunes nothing, and the choice of a ruleset."""

import inspect
import json
import shlex
from pathlib import Path

import pytest
from browser import CHROMIUM, opened
from commands import Command
from made_up import ended, made_up

from thalweg.lab.analysis import Analysis
from thalweg.lab.contract import Contract, draw_up
from thalweg.lab.lights import lights
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.report import write_report
from thalweg.lab.reproduce import command as command_of
from thalweg.lab.space import ENTRIES, Entry, default_point
from thalweg.lab.study import ready
from thalweg.lab.suites import SUITES, resolve
from thalweg.registry import OPTIMIZERS

NAMED = {"sgd": 0.1, "momentum": 0.1, "nesterov": 0.1, "dcao": 1.0, "dcao_adamw": 0.1}
LATE = {"muon": 1e-3, "dope_tuned": 1.5e-3}
"""Their constructors look the learning rate up."""


def hands_off(*optimizers: str, seeds: int = 2) -> Contract:
    return draw_up(
        "tasks", ["digits-mlp", "digits-autoencoder"], [ENTRIES[n] for n in optimizers], 8, seeds, "hands-off"
    )


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_the_default_learning_rate_is_the_constructors_or_a_named_one(entry: Entry) -> None:
    signature = inspect.signature(OPTIMIZERS[entry.rule]).parameters["lr"].default
    over = entry.steering.over if entry.steering else entry.name
    known = {**NAMED, **LATE}
    assert default_point(entry) == {"lr": known.get(entry.name, known.get(over, signature))}


def test_the_point_is_one_for_all_tasks_and_runs_at_once_on_the_final_seeds() -> None:
    contract = hands_off("adamw", "dcao", seeds=3)
    runs = ready(contract, {})
    assert len(runs) == contract.runs == 2 * 2 * 3
    assert {run.phase for run in runs} == {"final"}
    assert {run.seed for run in runs} == set(contract.final_seeds)
    assert {(run.optimizer, run.keywords["lr"]) for run in runs} == {("adamw", 1e-3), ("dcao", 1.0)}
    assert {run.optimizer: run.keywords["betas"] for run in runs if run.optimizer == "adamw"} == {"adamw": (0.9, 0.999)}


def test_nothing_said_of_tuning_is_said(tmp_path: Path) -> None:
    def end(config: RunConfig) -> tuple[Result, CurvePoint]:
        return ended(1.0, 90.0 + config.seed % 7)

    analysis = Analysis.of(made_up(tmp_path / "study", hands_off("adamw", "momentum", "dcao"), end))
    assert analysis.complete
    assert analysis.references == ["adamw", "momentum"]
    assert "boundary" not in " ".join(light.title for light in lights(analysis)).lower()
    path = write_report(analysis)
    html = path.read_text(encoding="utf-8")
    assert "Nothing is tuned." in html
    assert 'id="sensitivity' not in html
    assert "quasi-random" not in html
    assert "against untuned adamw" in html
    if CHROMIUM is not None:
        with opened(path, tmp_path / "profile") as page:
            assert page.run("document.querySelectorAll('.plot .main-svg').length") > 0


@pytest.mark.usefixtures("inline")
def test_a_comparison_hands_off_from_the_command_line(command: Command, tmp_path: Path) -> None:
    arguments = ["digits-mlp", "--ruleset", "hands-off", "-o", "adamw,dcao", "--seeds", 1, "--jobs", 1]
    done = command("compare", *arguments, "--store", tmp_path / "study", "--json")
    assert done.returncode == 0, done.stderr
    assert "Nothing is tuned" in done.stderr
    outcome = json.loads(done.stdout)["outcome"]
    assert outcome["complete"]
    assert [row["point"] for row in outcome["outcomes"]] == [{"lr": 1e-3}, {"lr": 1.0}]
    shown = command("status", tmp_path / "study").stdout
    assert "6 of 6 runs done" in shown
    assert "0/0" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["docs-gpt", "--ruleset", "hand"], ["ruleset 'hand' is unknown", "Did you mean hands-off"]),
        (["hands-off", "--trials", 8], ["--trials is 8", "tunes nothing: leave the option out"]),
        (["robustness", "-o", "dcao"], ["dcao without momentum", "add it: -o dcao,momentum"]),
        (["robustness", "hands-off"], ["suite 'robustness' cannot be combined"]),
    ],
)
def test_a_bad_ruleset_is_one_clear_message(
    command: Command, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    done = command("compare", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    for word in words:
        assert word in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["digits-mlp", "-o", "adamw"],
        ["digits-mlp", "--ruleset", "hands-off", "-o", "adamw", "--seeds", 3],
        ["digits-mlp", "--ruleset", "robustness"],
        ["smoke", "--ruleset", "robustness", "-o", "adamw,dcao_adamw"],
    ],
)
def test_the_printed_command_gives_the_contract_again(command: Command, arguments: list[str]) -> None:
    first = json.loads(command("compare", *arguments, "--dry-run", "--json").stdout)
    again = shlex.split(command_of(Contract.model_validate(first["contract"])))
    assert json.loads(command(*again[1:], "--dry-run", "--json").stdout)["hash"] == first["hash"]


def test_a_suite_has_a_ruleset_that_an_option_replaces() -> None:
    assert resolve(["smoke"]).ruleset == "tuned"
    assert resolve(["robustness"]) == SUITES["robustness"]
    replaced = resolve(["robustness"], "hands-off")
    assert replaced.tasks == SUITES["robustness"].tasks
    assert replaced.optimizers == SUITES["hands-off"].optimizers
    assert resolve(["docs-gpt"], "robustness").optimizers == SUITES["robustness"].optimizers
