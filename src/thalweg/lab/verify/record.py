"""What the last full `thalweg verify` of this user came to: kept outside of any study, and shown by all."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thalweg.lab.environment import environment
from thalweg.lab.space import Frozen
from thalweg.lab.store import write_atomically
from thalweg.lab.verify.run import Outcome


class Record(Frozen):
    """A full run."""

    passed: bool
    """Whether nothing failed; what was not measured is listed beside it."""
    date: str
    """Of its end, UTC."""
    versions: dict[str, str]
    measured: int
    failed: list[str]
    """Names of the references outside of their tolerance, or that raised an error."""
    not_measured: list[str]
    """Names of those whose files were not there."""


def state_folder() -> Path:
    """Return the folder of what the program remembers for its user: ``$XDG_STATE_HOME/thalweg``, or in ``~/.local/state``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "thalweg"


def path() -> Path:
    """Return the file of the last full run."""
    return state_folder() / "verified.json"


def save(outcomes: Sequence[Outcome]) -> Record:
    """Write what a full run came to.

    Raises:
        OSError: the file cannot be written.
    """
    here = environment()
    made = Record(
        passed=not any(outcome.failed for outcome in outcomes),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"thalweg": here.thalweg, "git": here.git, "torch": here.torch, "python": here.python},
        measured=sum(outcome.verdict in ("pass", "fail") for outcome in outcomes),
        failed=[outcome.reference.name for outcome in outcomes if outcome.failed],
        not_measured=[outcome.reference.name for outcome in outcomes if outcome.missing],
    )
    path().parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path(), made)
    return made


def latest() -> dict[str, Any] | None:
    """Return the record of the last full run, as plain data; None if there was none or its file cannot be understood."""
    try:
        return Record.model_validate_json(path().read_bytes()).model_dump()
    except (OSError, ValidationError):
        return None
