"""Running `thalweg` in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import thalweg


class Finished(NamedTuple):
    """A command that ended."""

    returncode: str | int | None
    stdout: str
    stderr: str


Command = Callable[..., Finished]
SMALL = ["digits-mlp", "-o", "adamw,momentum,sgd", "--trials", "3", "--seeds", "3"]
"""The comparison most tests look at: 18 runs, a few seconds."""


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(Path(thalweg.__file__).parents[1]),
        "PYTHONWARNINGS": "error",
        "COLUMNS": "160",
    }


def start(*arguments: object, cwd: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "thalweg", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment(), stdout=pipe, stderr=pipe, text=True)
