"""Targets: frozen levels, found by the references and read by a comparison."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import Command
from made_up import ended, made_up

from thalweg.lab.analysis import Analysis
from thalweg.lab.comparison import Request
from thalweg.lab.contract import draw_up
from thalweg.lab.errors import UserError
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.store import Store
from thalweg.lab.targets.frozen import add, read, shipped, with_targets
from thalweg.lab.targets.levels import levels, references
from thalweg.lab.tasks import EMBEDDED


def study(folder: Path) -> Store:
    """A finished study of the references: NAdam ends best; every curve has the two points that are made up."""
    contract = draw_up("targets", ["digits-mlp"], references(), 2, 3).model_copy(update={"evaluations": 1})

    def end(config: RunConfig) -> tuple[Result, CurvePoint]:
        value = {"nadam": 95.0, "adamw": 94.0}.get(config.optimizer, 90.0) + config.seed % 1000
        return ended(loss=1.0, value=value)

    return made_up(folder, contract, end)


def test_levels_are_the_median_of_the_best_reference(tmp_path: Path) -> None:
    analysis = Analysis.of(study(tmp_path / "study"))
    found = levels(analysis, analysis.store.contract.tasks[0])
    assert found.reference == "nadam"
    assert found.levels == (10.0, 96.0), "the untrained value at the beginning; then seeds 95, 96, 97"
    best = [max(p.validation or 0.0 for p in run.curve) for run in analysis.cell("digits-mlp", "nadam").finals]
    assert found.levels[-1] == np.median(best)


def test_a_contract_takes_the_targets_of_its_tasks_alone(tmp_path: Path) -> None:
    analysis = Analysis.of(study(tmp_path / "study"))
    found = levels(analysis, analysis.store.contract.tasks[0])
    file = tmp_path / "targets.json"
    add(file, [found])
    add(file, [found.model_copy(update={"levels": (1.0, 2.0)})])
    add(file, [found.model_copy(update={"task": "other"})])
    assert [targets.levels for targets in read(file)] == [(1.0, 2.0), (10.0, 96.0)]
    bare = draw_up("tasks", ["digits-mlp", "digits-mlp@64"], references(), 1, 1)
    timed = with_targets(bare, file)
    assert timed.tasks[0].targets == (1.0, 2.0)
    assert timed.tasks[1].targets != (1.0, 2.0), "another batch size is another task"
    assert timed.hash != bare.hash, "targets are part of the contract"


def test_every_embedded_task_has_targets_with_the_package() -> None:
    names = {targets.task for targets in shipped()}
    assert set(EMBEDDED) <= names
    contract = Request(["digits-mlp"], "adamw", 1, 1).contract()
    targets = contract.tasks[0].targets
    assert 3 <= len(targets) <= 5
    assert list(targets) == sorted(targets)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read(file)
    file.write_text(json.dumps([{"task": "digits-mlp"}]))
    with pytest.raises(UserError, match=r"cannot be understood \(0.data_hash: Field required\)"):
        Request(["digits-mlp"], "adamw", 1, 1, targets=file).contract()


@pytest.mark.usefixtures("inline")
def test_targets_from_the_command_line(command: Command, tmp_path: Path) -> None:
    done = command("targets", "digits-mlp", "--trials", "1", "--seeds", "1", "-o", "mine.json", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "Targets: mine.json" in done.stdout
    (targets,) = read(tmp_path / "mine.json")
    assert targets.task == "digits-mlp"
    assert command("targets", "digits-mlp", "-o", "mine.txt").stderr.startswith("thalweg: --output is mine.txt")
