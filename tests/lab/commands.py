"""Running `thalweg` in a process of its own."""

import os
import signal
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
"""The comparison most tests look at: 24 runs, a few seconds."""


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
    # A test run in the background of a shell ignores Ctrl-C, and its children would inherit that.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else None
    try:
        return subprocess.Popen(command, cwd=cwd, env=environment(), stdout=pipe, stderr=pipe, text=True)
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
