"""`thalweg verify`: the verdicts and exit codes on tiny references, and the measurement against other code."""

import csv
import json
import math
from importlib import import_module
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Command
from oracle import largest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor, nn

from thalweg.lab.errors import Missing, UserError
from thalweg.lab.tasks.files import VARIABLE
from thalweg.lab.verify import language, mnist1d, record, stability, strategies
from thalweg.lab.verify.references import GROUPS, Group, Measurement, Reference


def measured(value: float) -> Measurement:
    return Measurement(value, value - 0.1, value + 0.1, {"step": [1, 2], "sharpness": [value, value]})


def failing(value: float) -> Measurement:
    raise ArithmeticError(f"no {value}")


def without_files(value: float) -> Measurement:
    raise Missing("expected DIR/text/input.txt")


def with_damaged_files(value: float) -> Measurement:
    raise UserError("DIR/text/input.txt is no UTF-8 text")


@pytest.fixture(autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's record is not a test's to write."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def references(monkeypatch: pytest.MonkeyPatch):
    """Put other references in the place of all tables: (reference, ours, how it is measured)."""
    for function in (measured, failing, without_files, with_damaged_files):
        monkeypatch.setattr(stability, function.__name__, function, raising=False)
    for name in [name for name in GROUPS if name != "stability"]:
        monkeypatch.delitem(GROUPS, name)

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
    assert done.stdout.startswith("stability: 2 references, about 1 s\n")
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
    assert [row["verdict"] for row in group["references"]] == ["pass", "fail", "error"]
    assert [row["verdict"] for row in lines] == ["pass", "fail", "error"]
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


def test_what_needs_files_that_are_not_there_is_no_pass_and_no_failure(command: Command, references: Any) -> None:
    references((1.0, 1.0, "measured"), (1.0, 1.0, "without_files"))
    done = command("verify", "--jobs", 1)
    assert done.returncode == 0
    assert "line 1: –" in done.stdout
    assert "– no files" in done.stdout
    assert "line 1 was not measured: expected DIR/text/input.txt" in done.stderr
    group = json.loads(command("verify", "--jobs", 1, "--json").stdout)["stability"]
    assert not group["passed"]
    assert [row["verdict"] for row in group["references"]] == ["pass", "no files"]


def test_damaged_files_are_an_error(command: Command, references: Any) -> None:
    references((1.0, 1.0, "with_damaged_files"))
    done = command("verify", "--jobs", 1)
    assert done.returncode == 1
    assert "✗ ERROR" in done.stdout
    assert done.stderr.endswith("DIR/text/input.txt is no UTF-8 text\n")


def test_a_full_run_is_recorded_and_one_of_a_group_is_not(command: Command, references: Any) -> None:
    assert record.latest() is None
    references((1.0, 1.0, "measured"), (2.0, 1.0, "measured"), (1.0, 1.0, "without_files"))
    command("verify", "--only", "stability", "--jobs", 1)
    assert record.latest() is None
    command("verify", "--jobs", 1)
    found = record.latest()
    assert found is not None
    assert (found["passed"], found["measured"]) == (False, 2)
    assert (found["failed"], found["not_measured"]) == (["line 1"], ["line 2"])
    assert found["versions"]["torch"] == torch.__version__
    references((1.0, 1.0, "measured"))
    command("verify", "--jobs", 1)
    assert (record.latest() or {})["passed"]
    record.path().write_text('{"passed": ')
    assert record.latest() is None


def test_a_state_folder_that_cannot_be_written_costs_the_record_alone(
    command: Command, references: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references((1.0, 1.0, "measured"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    done = command("verify", "--jobs", 1)
    assert done.returncode == 0
    assert "The outcome was not recorded" in done.stderr


@pytest.mark.parametrize(
    ("optimizer", "options", "theirs"),
    [
        ("sgd", dict(lr=0.2), dict(solver="sgd", momentum=0, learning_rate_init=0.2)),
        ("sgd", dict(lr=0.2, momentum=0.9), dict(solver="sgd", nesterovs_momentum=False, learning_rate_init=0.2)),
        ("sgd", dict(lr=0.2, momentum=0.9, nesterov=True), dict(solver="sgd", learning_rate_init=0.2)),
        # scikit-learn adds ε to a root that is not corrected for its bias yet: alike where ε is nothing.
        ("adam", dict(lr=0.01, eps=1e-30), dict(solver="adam", learning_rate_init=0.01, epsilon=1e-30)),
    ],
)
def test_strategies_are_those_of_scikit_learn(optimizer: str, options: Any, theirs: Any) -> None:
    score, losses = strategies.trained(optimizer, options, epochs=4)
    x, y = (part.numpy() for part in strategies.digits())
    with pytest.warns(ConvergenceWarning):
        known = MLPClassifier(random_state=0, max_iter=4, **theirs).fit(x, y)
    np.testing.assert_allclose(losses, known.loss_curve_, rtol=1e-7)
    assert score == known.score(x, y)


def test_the_networks_of_mnist1d_have_the_sizes_of_their_authors() -> None:
    counts = {
        name: sum(parameter.numel() for parameter in build().parameters()) for name, build in mnist1d.NETWORKS.items()
    }
    assert counts == {"CNN": 5210, "MLP": 15210, "linear": 410}  # as their notebook prints


def test_signals_are_learned_by_torchs_adam_as_by_ours() -> None:
    data, steps = mnist1d.signals(), 50
    x, y = (torch.cat(parts) for parts in zip(data.train, data.validation, strict=True))
    torch.manual_seed(0)
    model = mnist1d.NETWORKS["linear"]()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        rows = slice(step % 40 * 100, step % 40 * 100 + 100)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    right = (model(data.test[0]).argmax(1) == data.test[1]).sum().item() / 10
    assert mnist1d.trained("linear", 0, steps) == pytest.approx(right, abs=0.3)  # of 1,000, three
    found = mnist1d.accuracy("linear", seeds=3, steps=20)
    assert found.low <= found.value <= found.high
    assert sorted(found.trace["accuracy"])[1] == found.value


def test_nanogpt_has_the_size_decay_and_learning_rates_of_its_configuration() -> None:
    model = language.network(65)
    assert sum(parameter.numel() for parameter in model.parameters()) == (65 + 64 + 4 * (12 * 128 + 2) + 1) * 128
    decayed, free = language.optimizer(model).param_groups
    assert {parameter.dim() for parameter in decayed["params"]} == {2}
    assert [len(free["params"]), decayed["weight_decay"], free["weight_decay"]] == [9, 0.1, 0.0]
    rates = [language.learning_rate(step, 2000) for step in (0, 50, 100, 1050, 2000)]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 5.5e-4, 1e-4])


def test_nanogpt_reads_its_text_and_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"tinyshakespeare/input\.txt"):
        language.validation_loss(1)
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("to be or not to be, that is the question\n" * 100)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr(language, "WARMUP", 2)
    found = language.validation_loss(12)
    assert found.trace["step"] == [12]
    assert found.value < math.log(15)  # its number of characters


def test_a_network_of_another_size_has_its_sharpness(monkeypatch: pytest.MonkeyPatch) -> None:
    found = stability.sharpness(lr=0.2, steps=50)
    assert found.trace["threshold"] == pytest.approx([10, 10])
    assert found.low == found.value == found.high == found.trace["sharpness"][-1]


def test_every_line_names_a_measurement_and_its_name_is_unique() -> None:
    for group in GROUPS.values():
        assert len({reference.name for reference in group.references}) == len(group.references)
        for reference in group.references:
            module, function = reference.measure.split(":")
            assert callable(getattr(import_module(f"thalweg.lab.verify.{module}"), function))


@pytest.mark.slow
@pytest.mark.parametrize("group", ["strategies", "mnist1d", "edge", "stability"])
def test_known_references_are_reproduced(command: Command, group: str) -> None:
    done = command("verify", "--only", group, "--jobs", 2)
    assert done.returncode == 0, done.stdout
