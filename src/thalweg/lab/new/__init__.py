"""``thalweg new``: a task or an optimizer of one's own, begun from a small one that works, with its test."""

import keyword
from pathlib import Path
from typing import Annotated

import typer

from thalweg.lab.errors import UserError, check_name

TEMPLATES = Path(__file__).parent / "templates"
KINDS = ("task", "optimizer")


def command(
    kind: Annotated[str, typer.Argument(help="task or optimizer.", metavar="task|optimizer")],
    name: Annotated[str, typer.Argument(help="Name of the file, without .py.")],
) -> None:
    """Write NAME.py, a small example that works, and test_NAME.py, what the lab relies on, into this folder."""
    for path in write(check_name("kind", kind, KINDS), name, Path()):
        print(path)


def write(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the two files of a task or an optimizer; return their paths.

    Raises:
        UserError: the name is no Python name, or a file is there already.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UserError(f"NAME is {name!r}; it must be a Python name, such as my_{kind}.")
    paths = [folder / f"{name}.py", folder / f"test_{name}.py"]
    there = [path for path in paths if path.exists()]
    if there:
        raise UserError(f"{there[0]} is there already; give another name, or remove it. Nothing was written.")
    for path, prefix in zip(paths, ("", "test_"), strict=True):
        template = (TEMPLATES / f"{prefix}my_{kind}.py").read_text(encoding="utf-8")
        path.write_text(template.replace(f"my_{kind}", name), encoding="utf-8")
    return paths
