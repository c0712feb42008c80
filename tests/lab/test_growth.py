"""Studies that grow: extended by the same command with more, merged from several folders."""

from pathlib import Path

import pytest
from commands import Command
from made_up import ended, made_up

from thalweg.lab.analysis import Analysis
from thalweg.lab.comparison import Request
from thalweg.lab.contract import Contract
from thalweg.lab.errors import UserError
from thalweg.lab.growth import joined, restricted
from thalweg.lab.merge import merge
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.store import Store
from thalweg.lab.study import counted, ready


def contract(
    optimizers: str = "sgd,adamw", trials: int = 2, seeds: int = 2, tasks: tuple[str, ...] = ("digits-mlp",)
) -> Contract:
    return Request(list(tasks), optimizers, trials, seeds).contract()


def known(config: RunConfig) -> tuple[Result, CurvePoint]:
    """An outcome that depends on the configuration alone."""
    value = 50 + 10 * config.point["lr"] + config.seed / 1000
    return ended(loss=1 / value, value=value)


@pytest.mark.parametrize(
    "more",
    [
        contract(trials=5),
        contract(seeds=4),
        contract("adamw,sgd,nesterov"),
        contract(tasks=("digits-cnn", "digits-mlp")),
        contract("momentum,adamw,sgd", 3, 3, ("digits-mlp", "docs-gpt")),
    ],
    ids=["trials", "seeds", "optimizers", "tasks", "all"],
)
def test_an_extended_study_keeps_its_runs_and_equals_one_that_was_long_from_the_start(
    more: Contract, tmp_path: Path
) -> None:
    made_up(tmp_path / "grown", contract(), known)
    before = Store.open(tmp_path / "grown").finished()
    grown = made_up(tmp_path / "grown", more, known)
    whole = made_up(tmp_path / "whole", more, known)
    assert before.items() <= grown.finished().items()
    assert Store.open(tmp_path / "grown").contract == more
    assert counted(grown.contract, grown.finished()) == counted(whole.contract, whole.finished())
    assert Analysis.of(grown).complete


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (contract(trials=1), "trials"),
        (contract(seeds=1), "final_seeds"),
        (contract("sgd"), "optimizers"),
        (contract(tasks=("digits-cnn",)), "tasks"),
        (contract(trials=10), "optimizers"),
    ],
    ids=["fewer trials", "fewer seeds", "fewer optimizers", "other tasks", "another number of hyperparameters"],
)
def test_what_is_no_extension_is_refused_by_its_field_and_changes_nothing(
    other: Contract, field: str, tmp_path: Path
) -> None:
    store = made_up(tmp_path / "study", contract(), known)
    files = {path: path.read_bytes() for path in store.folder.rglob("*.json")}
    with pytest.raises(UserError, match=f"holds another study: its contract has {field}"):
        Store.create(store.folder, other)
    assert {path: path.read_bytes() for path in store.folder.rglob("*.json")} == files


def test_a_restriction_to_itself_is_itself() -> None:
    whole = contract("sgd,adamw,nesterov", 3, 3)
    assert restricted(whole, whole) == whole
    assert restricted(whole, contract()) == contract()


def test_merged_studies_are_the_study_of_all(tmp_path: Path) -> None:
    one = made_up(tmp_path / "one", contract("sgd,adamw", seeds=3), known)
    other = made_up(tmp_path / "other", contract("adamw,nesterov", seeds=3), known)
    whole = made_up(tmp_path / "whole", contract("sgd,adamw,nesterov", seeds=3), known)
    merged = merge([one, other], tmp_path / "merged")
    assert merged.contract == whole.contract
    assert counted(merged.contract, merged.finished()) == counted(whole.contract, whole.finished())
    assert not ready(merged.contract, merged.finished())
    assert [run.curve for run in Analysis.of(merged).runs] == [run.curve for run in Analysis.of(whole).runs]


def test_what_two_tasks_leave_open_can_be_done_later(tmp_path: Path, command: Command) -> None:
    one = made_up(tmp_path / "one", contract("sgd"), known)
    other = made_up(tmp_path / "other", contract("adamw", tasks=("digits-cnn",)), known)
    done = command("merge", one.folder, other.folder, "--store", tmp_path / "merged")
    assert done.returncode == 0
    assert "12 of 24 runs" in done.stdout
    assert "thalweg compare digits-mlp digits-cnn -o sgd,adamw --trials 2 --seeds 2" in done.stdout


def test_studies_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    one = made_up(tmp_path / "one", contract(), known)
    with pytest.raises(UserError, match="2 trials and another 3"):
        joined([one.contract, contract(trials=3)])
    tasks = [task.model_copy(update={"budget": 7}) for task in one.contract.tasks]
    with pytest.raises(UserError, match=r"tasks\[0\].budget is 300 in one, 7 in another"):
        joined([one.contract, one.contract.model_copy(update={"tasks": tasks})])
    with pytest.raises(UserError, match="two studies or more"):
        merge([one], tmp_path / "merged")

    def unlike(config: RunConfig) -> tuple[Result, CurvePoint]:
        return ended(loss=1, value=1)

    other = made_up(tmp_path / "other", contract(), unlike)
    with pytest.raises(UserError, match=r"has value .* so they were not done alike"):
        merge([one, other], tmp_path / "merged")
    with pytest.raises(UserError, match="is not empty"):
        merge([one, one], other.folder)
    assert not (tmp_path / "merged").exists()
