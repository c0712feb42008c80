"""Optuna's journal file, under a lock that a killed process gives back, and mended after a write that was cut."""

import fcntl
import os
from pathlib import Path
from typing import Any, cast

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from thalweg.lab.errors import UserError

CHUNK = 1 << 16


def open_journal(path: str, create: bool) -> BaseStorage:
    """Open a journal, or begin it.

    Raises:
        UserError: there is none, or the file is something else.
        OSError: it cannot be read or written.
    """
    if create:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    elif not Path(path).is_file():
        raise UserError(f"--store journal:{path} does not exist; begin a study in it with thalweg compare.")
    try:
        return JournalStorage(JournalFileBackend(path, cast(Any, KernelLock(path))))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(
            f"--store journal:{path} is no journal of Optuna, or damaged ({error!r}); give another file."
        ) from None


class KernelLock:
    """The right to write the journal, by a lock of the kernel (flock) on a file beside it.

    Optuna's own locks are files whose holder removes them: when it is killed, everybody waits for half a minute and then
    takes the lock away, from whoever has it by then.
    """

    def __init__(self, journal: str):
        self.journal = journal

    def acquire(self) -> bool:
        """Wait for the lock, and mend the journal: only now is nobody in the middle of a line."""
        self._file = os.open(f"{self.journal}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._drop_torn_line()
        return True

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._file)

    def _drop_torn_line(self) -> None:
        """Cut off what is behind the last end of a line: a write that a kill or a full disk cut short.

        Nobody has read it, for readers wait for the end of a line. The next line would be joined to it, and be lost.
        """
        with open(self.journal, "rb+") as file:
            whole = size = file.seek(0, os.SEEK_END)
            while whole > 0:
                start = max(0, whole - CHUNK)
                file.seek(start)
                newline = file.read(whole - start).rfind(b"\n")
                whole = start if newline < 0 else start + newline + 1
                if newline >= 0:
                    break
            if whole < size:
                file.truncate(whole)
