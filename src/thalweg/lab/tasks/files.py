"""Tasks on files that the user has: where they lie, and what is said when they do not. Nothing is ever downloaded."""

import codecs
import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from thalweg.lab.errors import Missing, UserError, check_name
from thalweg.lab.untyped import needed

VARIABLE = "THALWEG_DATA"
"""Environment variable with the data folder: set by ``--data`` and inherited by worker processes, so that no run's
configuration holds a path of one machine. The data's hash is what a contract holds."""

LARGEST = 1 << 30
"""Bytes of a file, unpacked, that are read: a packed file of nothing but zeros would fill any memory."""

Preset = Literal["tiny", "paper"]
"""Size of a task on files: ``tiny`` for two cores, ``paper`` for the size of its source."""
PRESETS: tuple[Preset, ...] = get_args(Preset)


def check_preset(name: str | None) -> Preset | None:
    """Return the preset of a name; None, which leaves it to the task, of none.

    Raises:
        UserError: there is no such preset.
    """
    return None if name is None else cast(Preset, check_name("preset", name, PRESETS))


def data_folder() -> Path | None:
    """Return the user's data folder; None if there is none."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None


def use_data_folder(folder: Path | None) -> None:
    """Make a folder the data folder of this process and its workers; None leaves it as it is."""
    if folder is not None:
        os.environ[VARIABLE] = str(folder.absolute())


def options(preset: Preset | None, data: str) -> list[str]:
    """Return the words that a command line needs for a task's files; none for an embedded task."""
    return [] if preset is None else ["--preset", preset, "--data", data]


@dataclass(frozen=True)
class Layout:
    """Files of one data set, in a folder of its own inside the data folder, or in the data folder itself."""

    what: str
    folder: str
    files: str
    """All of them, as an error lists them."""
    required: tuple[str, ...]
    """What none may lack, without their endings."""
    endings: tuple[str, ...] = ("",)
    """Of each file one of these; the first that is there is read."""
    elsewhere: tuple[str, ...] = ()
    """Other folders that are looked into."""

    def find(self, data: Path | None) -> Path:
        """Return the folder that holds the files.

        Raises:
            Missing: none does; the message names the files and where they are expected.
        """
        expected = f"DIR/{self.folder}/{self.files} ({self.what})"
        if data is None:
            raise Missing(f"--data is not given: expected {expected}; give --data DIR or set {VARIABLE}.")
        lacking: list[str] = []
        for folder in (*(data / name for name in (self.folder, *self.elsewhere)), data):
            missing = [name for name in self.required if self.file(folder, name) is None]
            if not missing:
                return folder
            if len(missing) < len(self.required) and not lacking:
                lacking = [f"{folder} has no {', no '.join(missing)}"]
        raise Missing(f"--data {data}: {lacking[0] if lacking else 'these files are not there'}; expected {expected}.")

    def file(self, folder: Path, name: str) -> Path | None:
        """Return a required file of a folder with the ending that it has; None if there is none."""
        paths = (folder / f"{name}{ending}" for ending in self.endings)
        return next((path for path in paths if path.exists()), None)

    def paths(self, data: Path | None) -> list[Path]:
        """Return all required files.

        Raises:
            Missing: one is not there.
        """
        folder = self.find(data)
        return [path for name in self.required if (path := self.file(folder, name))]


def read_bytes(path: Path) -> bytes:
    """Read a file; one that ends in ``.gz`` is unpacked.

    Raises:
        UserError: it cannot be read, is damaged, or holds more than `LARGEST`.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is no whole gzip file: {error}; get the file again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    if len(content) > LARGEST:
        raise UserError(f"{path} holds more than {LARGEST >> 20} MiB, which no file of this data set does.")
    return content


def read_text(path: Path) -> str:
    """Read a UTF-8 text, without its byte order mark.

    Raises:
        UserError: as `read_bytes`; or it is no UTF-8.
    """
    content = read_bytes(path)
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}.") from error


def library(module: str) -> Any:
    """Import a library of the extra ``tasks``.

    Raises:
        Missing: it is not installed.
    """
    return needed(module, "this task", "tasks")
