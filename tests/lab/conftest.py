import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import thalweg
from thalweg.lab.analysis import Analysis
from thalweg.lab.store import Store

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SMALL = ["digits-mlp", "-o", "adamw,momentum,sgd", "--trials", "3", "--seeds", "3"]
"""The comparison most tests look at: 18 runs, a few seconds."""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(thalweg.__file__).parents[1]), "PYTHONWARNINGS": "error", "COLUMNS": "160"}


def start(*arguments: object, cwd: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "thalweg", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment(), stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `thalweg` in an empty folder."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        process = start(*arguments, cwd=tmp_path)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small study, to be read only."""
    folder = tmp_path_factory.mktemp("lab") / "study"
    process = start("compare", *SMALL, "--store", folder, cwd=folder.parent)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    (folder.parent / "stdout.txt").write_text(out, encoding="utf-8")
    return folder


@pytest.fixture
def analysis(study: Path) -> Analysis:
    return Analysis.of(Store.open(study))
