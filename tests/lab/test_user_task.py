"""A user's own task or optimizer in one file: how it enters a study, and what is said when it breaks."""

import json
from pathlib import Path

import pytest
from commands import Command

from thalweg.lab import own
from thalweg.lab.comparison import Request
from thalweg.lab.errors import UserError
from thalweg.lab.execution.workers import run_all
from thalweg.lab.new import write
from thalweg.lab.reproduce import command as again
from thalweg.lab.space import entry
from thalweg.lab.store import Store
from thalweg.lab.tasks import load_task


@pytest.fixture(autouse=True)
def _forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (own.TASKS, own.OPTIMIZERS):
        monkeypatch.setenv(variable, "")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write("task", "mine", tmp_path)[0]


def broken(path: Path, before: str, after: str) -> Path:
    """Change a line of a task's file, under another name: a file is read once a process."""
    text = path.read_text()
    assert before in text
    changed = path.with_name(f"broken_{abs(hash(after))}.py")
    changed.write_text(text.replace(before, after))
    return changed


def test_a_file_is_a_task_by_its_name_and_its_code(mine: Path) -> None:
    task = load_task(str(mine))
    assert task.name == "mine"
    assert load_task("mine") is task
    assert load_task(f"{mine}@100").batch_size == 100
    changed = broken(mine, "budget=500", "budget=400")
    assert load_task(str(changed)).data_hash != task.data_hash


def test_a_study_of_ones_own_holds_no_path_and_runs_in_workers(mine: Path, tmp_path: Path) -> None:
    rule = write("optimizer", "signs", tmp_path)[0]
    contract = Request([str(mine)], f"{rule},sgd", trials=1, seeds=1).contract()
    assert [terms.name for terms in contract.optimizers] == ["signs", "sgd"]
    short = contract.tasks[0].model_copy(update={"budget": 5})
    store = Store.create(
        tmp_path / "study", contract.model_copy(update={"tasks": [short], "evaluations": 1, "aside": ()})
    )
    results = [result for _, result in run_all(store, 1)]
    assert [result.message for result in results if result.state == "crashed"] == []
    assert len(results) == 4
    assert str(tmp_path) not in "".join(path.read_text() for path in store.folder.rglob("*.json*"))
    assert again(contract).startswith("thalweg compare mine.py -o signs.py,sgd")
    assert again(contract, "x").startswith(f"thalweg compare {mine} -o {rule},sgd")


@pytest.mark.usefixtures("inline")
def test_a_task_that_raises_is_named_and_the_others_go_on(mine: Path, tmp_path: Path, command: Command) -> None:
    path = broken(mine, "loss=F.cross_entropy", "loss=lambda outputs, targets: outputs[targets.numel() + 7, 0]")
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "targets.numel()" in text)
    done = command("compare", path, mine, "-o", "sgd", "--trials", 1, "--seeds", 1, "--store", "study", "--jobs", 1)
    assert done.returncode == 1
    assert f"{path.name} line {line}, in <lambda>: IndexError: " in done.stderr
    states = {
        (
            json.loads((folder / "config.json").read_text())["task"],
            json.loads((folder / "result.json").read_text())["state"],
        )
        for folder in (result.parent for result in (tmp_path / "study").rglob("result.json"))
    }
    assert states == {(path.stem, "crashed"), ("mine", "ok")}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("return nn.Sequential(", "return nn.Sequentia1(", r"line 25, in build: AttributeError"),
        ("points, labels = data()", "points, labels = data(7)", r"line 30, in task: TypeError"),
        ("ROWS = 1200", "ROWS = = 1200", r"line 10: SyntaxError"),
        ("ROWS = 1200", "import no_such_module", r"line 10, in <module>: ModuleNotFoundError"),
        ("def task()", "def tusk()", "AttributeError: .*task"),
        ("    return Task(", "    return dict(", "its TASK is a dict"),
    ],
)
def test_a_file_that_raises_is_refused_with_its_line(before: str, after: str, said: str, mine: Path) -> None:
    path = broken(mine, before, after)
    with pytest.raises(UserError, match=said) as refused:
        Request([str(path)], "sgd", trials=1, seeds=1).contract()
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["<script>alert(1)<", "ünïcode"])
def test_any_name_will_do(name: str, mine: Path) -> None:
    path = mine.with_name(f"{name.replace('/', '')}.py")
    path.write_text(mine.read_text())
    assert load_task(str(path)).name == path.stem


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digits-mlp", "the name 'digits-mlp' is taken"),
        ("smoke", "the name 'smoke' is taken"),
        ("a,b", "a name without @ and comma is needed"),
        ("nothing", "is no file"),
    ],
)
def test_a_file_that_cannot_enter_is_named(name: str, said: str, mine: Path) -> None:
    path = mine.with_name(f"{name}.py")
    if name != "nothing":
        path.write_text(mine.read_text())
    with pytest.raises(UserError, match=said):
        Request([str(path)], "sgd", trials=1, seeds=1).contract()


def test_two_files_of_one_name_are_refused(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write("task", "mine", tmp_path / "other")[0]
    with pytest.raises(UserError, match="the name 'mine' is taken"):
        Request([str(mine), str(other)], "sgd", trials=1, seeds=1).contract()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("OPTIMIZER = MyOptimizer", "OPTIMIZER = 3", "its OPTIMIZER is 3"),
        ("ENTRY = Entry(", "ENTRY = dict(", "its ENTRY is a dict"),
        ("OPTIMIZER = MyOptimizer", "raise ValueError('no')", r"line \d+, in <module>: ValueError: no"),
    ],
)
def test_an_optimizer_that_lacks_something_is_named(before: str, after: str, said: str, tmp_path: Path) -> None:
    path = broken(write("optimizer", "signs", tmp_path)[0], before, after)
    with pytest.raises(UserError, match=said):
        entry(str(path))
