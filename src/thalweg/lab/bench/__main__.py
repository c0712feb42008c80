"""`python -m thalweg.lab.bench` is `thalweg bench`."""

import typer

from thalweg.lab.bench.command import command

if __name__ == "__main__":
    typer.run(command)
