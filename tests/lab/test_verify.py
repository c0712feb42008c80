"""`thalweg verify`: the verdicts and exit codes on tiny references, and the measurement against other code."""

import csv
import json
import math
from importlib import import_module
from itertools import starmap
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command
from oracle import largest
from torch import Tensor, nn

from thalweg.lab.verify import stability
from thalweg.lab.verify.references import GROUPS, Group, Measurement, Reference


def measured(value: float) -> Measurement:
    return Measurement(value, value - 0.1, value + 0.1, {"step": [1, 2], "sharpness": [value, value]})


def failing(value: float) -> Measurement:
    raise ArithmeticError(f"no {value}")


@pytest.fixture
def references(monkeypatch: pytest.MonkeyPatch):
    """Put other references in the place of the table's: (reference, ours, how it is measured)."""
    monkeypatch.setattr(stability, "measured", measured, raising=False)
    monkeypatch.setattr(stability, "failing", failing, raising=False)

    def put(*lines: tuple[float, float, str]) -> None:
        made = starmap(
            lambda i, line: Reference(f"line {i}", line[0], 0.03, f"stability:{line[2]}", {"value": line[1]}),
            enumerate(lines),
        )
        monkeypatch.setitem(GROUPS, "stability", Group("what", "source", tuple(made)))

    return put


def test_all_within_tolerance_is_success(command: Command, references: Any) -> None:
    references((1.0, 1.02, "measured"), (0.5, 0.48, "measured"))
    done = command("verify", "--only", "stability", "--jobs", 1)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.count("✓ pass") == 4  # a line as it ends, and the table
    assert "1.020 [0.920, 1.120], reference 1.000 ± 0.03" in done.stdout


@pytest.mark.parametrize(
    ("ours", "how", "word"),
    [(1.031, "measured", "✗ FAIL"), (math.nan, "measured", "✗ FAIL"), (1.0, "failing", "✗ ERROR")],
)
def test_one_that_fails_fails_the_command(command: Command, references: Any, ours: float, how: str, word: str) -> None:
    references((1.0, ours, how), (2.0, 2.0, "measured"))
    done = command("verify", "--jobs", 1)
    assert done.returncode == 1
    assert f"line 0: {'–' if how == 'failing' else f'{ours:.3f}'}" in done.stderr
    assert "line 1" not in done.stderr
    assert word in done.stdout
    assert ("ArithmeticError: no 1.0" in done.stderr) == (how == "failing")


def test_json_and_files_say_the_same(command: Command, references: Any, tmp_path: Path) -> None:
    references((1.0, 1.02, "measured"), (0.5, 0.6, "measured"), (3.0, 3.0, "failing"))
    printed = json.loads(command("verify", "--jobs", 1, "--json", "-o", tmp_path / "a" / "runs.json").stdout)
    saved = json.loads((tmp_path / "a" / "runs.json").read_text())
    assert command("verify", "--jobs", 1, "-q", "-o", tmp_path / "runs.csv").stdout == ""
    lines = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    group = printed["stability"]
    assert not group["passed"]
    assert [row["passed"] for row in group["references"]] == [True, False, False]
    assert [row["passed"] for row in lines] == ["True", "False", "False"]
    assert [row["ours"] for row in group["references"]] == [1.02, 0.6, None]
    assert saved["groups"]["stability"]["references"][0]["trace"] == {"step": [1, 2], "sharpness": [1.02, 1.02]}
    assert saved["environment"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "stabilty"], ["--only 'stabilty' is unknown", "Did you mean stability"]),
        (["--jobs", "0"], ["--jobs is 0"]),
        (["--jobs", "two"], ["--jobs is 'two'", "whole number"]),
        (["-o", "runs.txt"], ["--output is runs.txt", ".json or .csv"]),
        (["-o", "/proc/nowhere/runs.csv"], ["--output /proc/nowhere/runs.csv cannot be written"]),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_measured(
    command: Command, arguments: list[str], words: list[str]
) -> None:
    done = command("verify", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


def test_stopped_it_tells_what_it_has(command: Command, references: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(value: float) -> Measurement:
        raise KeyboardInterrupt

    references((1.0, 1.0, "measured"), (1.0, 1.0, "interrupted"))
    monkeypatch.setattr(stability, "interrupted", interrupted, raising=False)
    done = command("verify", "--jobs", 1, "--json")
    assert done.returncode == 130
    assert "Stopped after 1 of 2 references" in done.stderr
    assert [row["name"] for row in json.loads(done.stdout)["stability"]["references"]] == ["line 0"]
    assert not json.loads(done.stdout)["stability"]["passed"]


def test_sharpness_is_that_of_torchs_optimizer_by_scipy() -> None:
    steps, lr = 50, 0.2
    found = stability.ratio("sgd", {"lr": lr}, steps, "Tanh")
    assert found.trace["step"] == [25, 50]
    assert found.trace["threshold"] == pytest.approx([2 / lr] * 2)

    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)]
    model, (x, y) = nn.Sequential(*layers), stability.digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def loss() -> Tensor:
        return (model(x) - y).pow(2).sum() / (2 * len(x))

    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert found.trace["sharpness"][-1] == pytest.approx(largest(loss(), model, 1)[0], rel=2e-3)
    assert found.low <= found.value <= found.high


def test_every_line_names_a_measurement_and_its_name_is_unique() -> None:
    for group in GROUPS.values():
        assert len({reference.name for reference in group.references}) == len(group.references)
        for reference in group.references:
            module, function = reference.measure.split(":")
            assert callable(getattr(import_module(f"thalweg.lab.verify.{module}"), function))


@pytest.mark.slow
def test_the_edge_of_stability_is_reproduced(command: Command) -> None:
    done = command("verify", "--only", "stability", "--jobs", 2)
    assert done.returncode == 0, done.stdout
