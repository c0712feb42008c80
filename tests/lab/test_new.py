"""`thalweg new`: what it writes passes its own test, and can be compared."""

from pathlib import Path

import pytest
from commands import Command

from thalweg.lab import own

KINDS = ["task", "optimizer"]


@pytest.fixture(autouse=True)
def _forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (own.TASKS, own.OPTIMIZERS):
        monkeypatch.setenv(variable, "")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_passes_its_own_test(kind: str, command: Command, tmp_path: Path) -> None:
    name = f"fine_{kind}"
    made = command("new", kind, name)
    assert made.returncode == 0
    assert made.stdout.split() == [f"{name}.py", f"test_{name}.py"]
    module, _ = own.load(tmp_path / f"test_{name}.py")
    tests = [function for found, function in vars(module).items() if found.startswith("test_")]
    assert len(tests) >= 3
    for test in tests:
        test()
    assert len((tmp_path / f"{name}.py").read_text().splitlines()) <= 60
    assert f"my_{kind}" not in (tmp_path / f"{name}.py").read_text()


@pytest.mark.parametrize("name", ["two words", "9lives", "class", "../x", "a.py"])
def test_a_name_that_python_cannot_take_is_refused(name: str, command: Command, tmp_path: Path) -> None:
    refused = command("new", "task", name)
    assert refused.returncode == 2
    assert f"NAME is {name!r}; it must be a Python name" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(command: Command, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("precious")
    refused = command("new", "optimizer", "mine")
    assert refused.returncode == 2
    assert "test_mine.py is there already" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]


def test_an_unknown_kind_is_named(command: Command) -> None:
    assert "kind 'tsk' is unknown. Did you mean task?" in command("new", "tsk", "x").stderr
