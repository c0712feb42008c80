"""One runner a study folder: a lock of the kernel (flock) on ``STUDY/lock``, which a process that dies gives back.

The file stays, and says which process was the last; a file alone locks nothing. POSIX systems only.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from thalweg.lab.errors import UserError


@contextmanager
def only_runner(folder: Path) -> Generator[None]:
    """Be the only process that changes a study.

    Raises:
        UserError: another process is; the message names it.
    """
    path = folder / "lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"--store {folder} cannot be written: {error.strerror}.") from None
    try:
        _lock(file, folder)
        yield
    finally:
        os.close(file)  # which gives the lock back


def _lock(file: int, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 20).decode(errors="replace").strip() or "unknown"
        raise UserError(
            f"--store {folder} is in use by process {holder}; wait for it to end, or stop it. For several processes on"
            " one study give all of them --store URL (thalweg worker --help)."
        ) from None
    except OSError as error:
        raise UserError(
            f"--store {folder} cannot be locked: {error.strerror}; give a folder on another disk."
        ) from None
    os.truncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
