"""`python -m thalweg.lab.bench` is `thalweg bench`."""

import sys

import typer

from thalweg.lab.bench.command import command
from thalweg.lab.errors import UserError

if __name__ == "__main__":
    try:
        typer.run(command)
    except UserError as error:
        print(f"thalweg: {error}", file=sys.stderr)
        sys.exit(2)
