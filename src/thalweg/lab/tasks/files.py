"""Tasks on files that the user has: where they lie, and what is said when they do not. Nothing is ever downloaded."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from thalweg.lab.errors import UserError, check_name

VARIABLE = "THALWEG_DATA"
"""Environment variable with the data folder: set by ``--data`` and inherited by worker processes, so that no run's
configuration holds a path of one machine. The data's hash is what a contract holds."""

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

    def find(self, data: Path | None) -> Path:
        """Return the folder that holds the files.

        Raises:
            UserError: none does; the message names the files and where they are expected.
        """
        expected = f"DIR/{self.folder}/{self.files} ({self.what})"
        if data is None:
            raise UserError(f"--data is not given: expected {expected}; give --data DIR or set {VARIABLE}.")
        for folder in (data / self.folder, data):
            missing = [name for name in self.required if not (folder / name).is_file()]
            if not missing:
                return folder
            if len(missing) < len(self.required):
                raise UserError(f"--data {data}: {folder} has no {', no '.join(missing)}; expected {expected}.")
        raise UserError(f"--data {data} does not hold these files: expected {expected}.")
