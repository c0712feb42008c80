"""Shell completion, as bash asks for it: by the environment of a process, whose output is the words."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, start

from thalweg.lab.space import ENTRIES
from thalweg.lab.suites import SUITES
from thalweg.lab.tasks import TASKS

Ask = Callable[..., list[str]]


@pytest.fixture
def completed(command: Command, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What bash gets for a line whose last word is being typed."""

    def ask(*words: str) -> list[str]:
        line = " ".join(["thalweg", *words])
        monkeypatch.setenv("_THALWEG_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        return command().stdout.split()

    return ask


def test_compare_completes_suites_and_tasks(completed: Ask) -> None:
    assert set(completed("compare", "")) == {*SUITES, *TASKS}
    assert completed("compare", "digits-mlp") == ["digits-mlp", "digits-mlp-mse"]
    after_one = completed("compare", "docs-gpt", "")
    assert set(after_one) == {*TASKS} - {"docs-gpt"}


def test_optimizers_are_completed_in_a_list(completed: Ask) -> None:
    assert completed("compare", "-o", "nes") == ["nesterov"]
    assert set(completed("compare", "-o", "")) == set(ENTRIES)
    assert "adamw,sgd" in completed("compare", "-o", "adamw,s")
    assert "adamw,adamw" not in completed("compare", "-o", "adamw,ad")
    assert completed("compare", "docs-gpt", "-o", "adamw,sgd,nest") == ["adamw,sgd,nesterov"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["compare", "--preset", ""], ["tiny", "paper"]),
        (["verify", "--only", "st"], ["strategies", "stability"]),
        (["export", "--to", "t"], ["tensorboard"]),
        (["doct"], ["doctor"]),
    ],
)
def test_other_names_are_completed(completed: Ask, words: list[str], found: list[str]) -> None:
    assert sorted(completed(*words)) == sorted(found)


def test_a_process_of_its_own_answers_and_does_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_THALWEG_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "thalweg compare smo")
    monkeypatch.setenv("COMP_CWORD", "2")
    out, err = start(cwd=tmp_path).communicate(timeout=120)
    assert (out.split(), err) == (["smoke"], "")
    assert os.listdir(tmp_path) == []
