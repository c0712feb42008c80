"""What the commands have in common: options, and where they print."""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from thalweg.lab.complete import one_of
from thalweg.lab.device import use_device
from thalweg.lab.errors import UserError, check_range
from thalweg.lab.execution.workers import available_cores
from thalweg.lab.tasks.files import PRESETS, VARIABLE, use_data_folder

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", callback=use_data_folder, help=f"Folder of your data files; {VARIABLE} if not given."
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help=f"Size of tasks on files: {' or '.join(PRESETS)}; tiny if not given.",
        autocompletion=one_of(PRESETS),
    ),
]

Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", callback=use_device, help="cpu, cuda, …; the best there is if not given."),
]

PLAIN_WIDTH = 160
"""Columns when the output is no terminal: wide enough that no table breaks its lines."""


def console(as_json: bool = False, quiet: bool = False) -> Console:
    """Return the console for people; standard output is kept for JSON when JSON is wanted."""
    stream = sys.stderr if as_json else sys.stdout
    return Console(file=stream, quiet=quiet, highlight=False, width=None if stream.isatty() else PLAIN_WIDTH)


def number(option: str, help: str) -> Any:
    """Return an option that takes a whole number, and says so like all our errors when it gets something else."""
    return _option(option, help, int, "a whole number")


def real(option: str, help: str) -> Any:
    """Return an option that takes a number."""
    return _option(option, help, float, "a number")


def _option(option: str, help: str, convert: Callable[[str], float], meant: str) -> Any:
    def parse(text: str) -> float:
        try:
            return convert(text)
        except ValueError:
            raise UserError(f"{option} is {text!r}; it must be {meant}.") from None

    return typer.Option(option, metavar="N" if convert is int else "X", parser=parse, help=help)


Jobs = Annotated[int | None, number("--jobs", "Processes; one a core if not given.")]


def processes_of(jobs: int | None) -> int:
    """Return how many processes ``--jobs`` means.

    Raises:
        UserError: none, or absurdly many.
    """
    return check_range("--jobs", available_cores() if jobs is None else jobs, 1, 1024)


def check_output(option: str, path: Path, *suffixes: str) -> Path:
    """Return a path that can be written: to be known before minutes of work, not after.

    Raises:
        UserError: another suffix, or a folder that cannot be written.
    """
    if path.suffix not in suffixes:
        raise UserError(f"{option} is {path}; it must end in {' or '.join(suffixes)}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{option} {path} cannot be written: {error.strerror}.") from None
    return path


def print_json(data: Any) -> None:
    """Print on standard output."""
    print(json.dumps(data, indent=2, ensure_ascii=False))
