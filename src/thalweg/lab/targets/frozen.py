"""Frozen targets as files: a list of tasks, each with its levels and how they were found."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from thalweg.lab.contract import Contract, TaskTerms
from thalweg.lab.errors import UserError
from thalweg.lab.page import write_text
from thalweg.lab.space import Frozen


class Targets(Frozen):
    """The levels of one task, for these data and this budget alone."""

    task: str
    data_hash: str
    metric: str
    parameters: int
    batch_size: int
    budget: int
    levels: tuple[float, ...]
    """The easiest first."""
    reference: str
    """Whose runs set them: the best of the references."""
    trials: int
    seeds: int
    contract: str
    """Hash of the study that found them."""
    environment: str

    def are_of(self, task: TaskTerms | Self) -> bool:
        """Whether they are of a task as a contract, or another study's targets, have it."""
        name = task.name if isinstance(task, TaskTerms) else task.task
        return self.task == name and all(getattr(self, field) == getattr(task, field) for field in IDENTITY)


IDENTITY = ("data_hash", "metric", "parameters", "batch_size", "budget")
_FILE = TypeAdapter(list[Targets])


def with_targets(contract: Contract, file: Path | None = None) -> Contract:
    """Return a contract with the targets of its tasks: those of a file, else those frozen with the package, else none; a
    sweep, which times nothing, as it is.

    Raises:
        UserError: the file cannot be read.
    """
    if contract.multiples:
        return contract
    known = [*(read(file) if file is not None else []), *shipped()]

    def levels(task: TaskTerms) -> tuple[float, ...]:
        return next((targets.levels for targets in known if targets.are_of(task)), ())

    return contract.model_copy(
        update={"tasks": [task.model_copy(update={"targets": levels(task)}) for task in contract.tasks]}
    )


def shipped() -> list[Targets]:
    """Return the targets that come with the package, of the tasks that need no files."""
    return _FILE.validate_json(files("thalweg.lab.targets").joinpath("shipped.json").read_bytes())


def read(file: Path) -> list[Targets]:
    """Read a file of targets.

    Raises:
        UserError: there is none, or it holds something else.
    """
    try:
        return _FILE.validate_json(file.read_bytes())
    except OSError as error:
        raise UserError(f"--targets {file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise UserError(
            f"--targets {file} cannot be understood ({where}: {first['msg']}); write it by `thalweg targets TASK…`."
        ) from error


def add(file: Path, found: list[Targets]) -> None:
    """Write targets into a file, in the place of those of the same tasks and beside the others.

    Raises:
        UserError: it holds something else, or cannot be written.
    """
    kept = [one for one in (read(file) if file.exists() else []) if not any(one.are_of(new) for new in found)]
    rows = sorted([*kept, *found], key=lambda targets: (targets.task, targets.data_hash))
    text = json.dumps([targets.model_dump(mode="json") for targets in rows], indent=2, ensure_ascii=False)
    write_text(file, "--output", text + "\n")
