"""What the commands have in common: options, and where they print."""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from thalweg.lab.errors import UserError

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

PLAIN_WIDTH = 160
"""Columns when the output is no terminal: wide enough that no table breaks its lines."""


def console(as_json: bool = False, quiet: bool = False) -> Console:
    """Return the console for people; standard output is kept for JSON when JSON is wanted."""
    stream = sys.stderr if as_json else sys.stdout
    return Console(file=stream, quiet=quiet, highlight=False, width=None if stream.isatty() else PLAIN_WIDTH)


def number(option: str, help: str) -> Any:
    """Return an option that takes a whole number, and says so like all our errors when it gets something else."""

    def parse(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise UserError(f"{option} is {text!r}; it must be a whole number.") from None

    return typer.Option(option, metavar="N", parser=parse, help=help)


def print_json(data: Any) -> None:
    """Print on standard output."""
    print(json.dumps(data, indent=2, ensure_ascii=False))
