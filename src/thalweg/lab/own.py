"""A user's own task or optimizer: one Python file, given by its path.

The path stays on this machine: an environment variable holds it, which workers inherit, so that no contract and no run's
configuration does. They hold the file's name without its ending, and a hash of its code.
"""

import hashlib
import os
import sys
import traceback
from collections.abc import Collection, Generator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from thalweg.lab.errors import UserError

TASKS, OPTIMIZERS = "THALWEG_TASKS", "THALWEG_OPTIMIZERS"
"""Environment variables with the paths of the user's files, separated as in PATH."""


def is_path(word: str) -> bool:
    """Whether a word of a command line is a file of the user's, and no name."""
    return word.endswith(".py")


def files(variable: str) -> dict[str, Path]:
    """Return the user's files by their names without ending."""
    paths = [Path(word) for word in os.environ.get(variable, "").split(os.pathsep) if word]
    return {path.stem: path for path in paths}


def enter(variable: str, word: str, taken: Collection[str]) -> str:
    """Make a file known to this process and its workers; return its name.

    Raises:
        UserError: there is no such file, or its name is taken or unusable.
    """
    path = Path(word).absolute()
    known = files(variable)
    if not path.is_file():
        raise UserError(f"{word} is no file; give the path of a Python file, as `thalweg new` writes one.")
    if path.stem in taken or known.get(path.stem, path) != path:
        raise UserError(f"{word}: the name {path.stem!r} is taken; rename the file.")
    if set(path.stem) & set("@,/") or os.pathsep in str(path):
        raise UserError(
            f"{word}: a name without @ and comma is needed, and a path without {os.pathsep!r}; rename the file."
        )
    os.environ[variable] = os.pathsep.join(map(str, (known | {path.stem: path}).values()))
    return path.stem


def word(variable: str, name: str, taken: Collection[str], with_path: bool) -> str:
    """Return the word that means a task or optimizer on a command line: a name, or one's own file."""
    plain, at, size = name.partition("@")
    if plain in taken:
        return name
    path = files(variable).get(plain)
    return f"{path if path and with_path else f'{plain}.py'}{at}{size}"


def load(path: Path) -> tuple[Any, str]:
    """Run a file; return its module, and a hash of its code.

    Raises:
        UserError: it raises; the message names file and line.
    """
    with blamed(path):
        code = path.read_bytes()
        spec = spec_from_file_location(f"thalweg_own_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[spec.name] = module_from_spec(spec)
        spec.loader.exec_module(module)
    return module, hashlib.sha256(code).hexdigest()[:16]


@contextmanager
def blamed(path: Path) -> Generator[None]:
    """Turn an error into one line that names file and line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}{_place(error, path) or ''}: {_said(error)}") from error


def explained(error: Exception) -> str:
    """Return an error's traceback; where it came through a file of the user's, its last line says where."""
    text = "".join(traceback.format_exception(error))
    for path in (*files(TASKS).values(), *files(OPTIMIZERS).values()):
        place = _place(error, path)
        if place:
            return f"{text}{path.name}{place}: {_said(error)}"
    return text


def _place(error: Exception, path: Path) -> str | None:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f" line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" line {frames[-1].lineno}, in {frames[-1].name}" if frames else None


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
