"""A study on disk: plain folders and files that outlive a kill at any moment.

    STUDY/contract.json
    STUDY/runs/TASK/OPTIMIZER/PHASE-trialNNN-seedN/{config.json, env.json, metrics.jsonl, result.json}

``result.json`` is written last, under another name, and renamed: it is there whole or not at all, and a run without it
is done again from its beginning.
"""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from thalweg.lab.contract import Contract
from thalweg.lab.environment import Environment
from thalweg.lab.errors import UserError
from thalweg.lab.growth import require_extension
from thalweg.lab.records import CurvePoint, Result, RunConfig

REDO = "remove the run's folder to have it done again"
Model = TypeVar("Model", bound=BaseModel)
_CURVE = TypeAdapter(list[CurvePoint])


class Store:
    """The folder of one study, which has a contract."""

    def __init__(self, folder: Path, contract: Contract):
        self.folder = folder
        self.contract = contract

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open an existing study.

        Raises:
            UserError: the folder holds no study, or one that this version cannot read.
        """
        path = folder / "contract.json"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"STUDY {folder} holds no study: contract.json cannot be read ({error.strerror})."
            ) from error
        return cls(folder, _parse(Contract, text, path, "give another folder"))

    @classmethod
    def create(cls, folder: Path, contract: Contract) -> "Store":
        """Open the study of a contract, or one that the contract extends, or begin it.

        Raises:
            UserError: the folder holds another study, holds something else, or cannot be written.
        """
        if (folder / "contract.json").exists():
            require_extension(cls.open(folder).contract, contract, str(folder))
            return cls(folder, contract)
        try:
            if folder.exists() and any(folder.iterdir()):
                raise UserError(f"--store {folder} is not empty and holds no study; give a new or an empty folder.")
            (folder / "runs").mkdir(parents=True)
            write_atomically(folder / "contract.json", contract)
        except OSError as error:
            shutil.rmtree(
                folder / "runs", ignore_errors=True
            )  # what a full disk leaves would look like somebody's folder
            for draft in folder.glob("contract.*.tmp"):
                draft.unlink(missing_ok=True)
            raise UserError(f"--store {folder} cannot be written: {error.strerror}.") from error
        return cls(folder, contract)

    def extend(self) -> None:
        """Write the contract in the place of the stored one, which it extends; for the one process that runs the study.

        Raises:
            UserError: it does not extend what is stored there by now.
        """
        stored = Store.open(self.folder).contract
        require_extension(stored, self.contract, str(self.folder))
        if stored != self.contract:
            write_atomically(self.folder / "contract.json", self.contract)

    def run(self, config: RunConfig) -> "RunFolder":
        """Return the folder of a run, which need not exist yet."""
        return RunFolder(self.folder / "runs" / config.path)

    def finished(self) -> dict[str, Result]:
        """Return the results on disk by run path."""
        runs = self.folder / "runs"
        return {
            path.parent.relative_to(runs).as_posix(): _parse(Result, path.read_bytes(), path, REDO)
            for path in runs.glob("*/*/*/result.json")
        }

    def environments(self) -> list[Environment]:
        """Return the different environments the finished runs were done in, the most frequent first."""
        files = [path.parent / "env.json" for path in self.folder.glob("runs/*/*/*/result.json")]
        origins = {file: file.read_bytes() for file in files}
        counts = Counter(origins.values())
        first = {content: file for file, content in reversed(origins.items())}
        return [_parse(Environment, content, first[content], REDO) for content, _ in counts.most_common()]


class RunFolder:
    """The folder of one run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, config: RunConfig, environment: Environment) -> None:
        """Make the folder, drop what an interrupted attempt left, and write what the run will do."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for draft in self.folder.glob("*.tmp"):
            draft.unlink()
        (self.folder / "metrics.jsonl").write_bytes(b"")
        write_atomically(self.folder / "config.json", config)
        write_atomically(self.folder / "env.json", environment)

    def add(self, point: CurvePoint) -> None:
        """Append a point to the curve."""
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(point.model_dump_json() + "\n")

    def finish(self, result: Result) -> None:
        """Write the result; from here on the run has happened."""
        write_atomically(self.folder / "result.json", result)

    def curve(self) -> list[CurvePoint]:
        """Read the curve."""
        path = self.folder / "metrics.jsonl"
        try:
            return _CURVE.validate_json(b"[" + b",".join(path.read_bytes().splitlines()) + b"]")
        except ValidationError as error:
            raise _damaged(error, path, REDO) from error


def _parse(kind: type[Model], text: str | bytes, path: Path, remedy: str) -> Model:
    """Read a stored model.

    Raises:
        UserError: it is damaged or from another version; the message names the file, the field and the remedy.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise _damaged(error, path, remedy) from error


def _damaged(error: ValidationError, path: Path, remedy: str) -> UserError:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "all of it"
    return UserError(f"{path} cannot be understood ({where}: {first['msg']}); {remedy}.")


def write_atomically(path: Path, content: BaseModel) -> None:
    """Write a model as JSON so that the path holds all of it or what it held before."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(content.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
