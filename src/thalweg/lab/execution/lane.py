"""A lane for runs that are timed: while one runs, no other run does, in any process of this user on this machine.

Ordinary runs share the lane, a timed run has it alone. All pass a turnstile first, and a timed run keeps that closed until
the lane is empty: so it waits for the runs in progress and not for those that would start after it. Nobody in the lane
waits for the turnstile, so nobody waits for ever. Both are locks of the kernel (flock), which a process that dies gives back.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.05
"""Between two looks at a lock that another process holds; a wait that never looked up could not be stopped."""


@contextmanager
def lane(alone: bool, stop: Callable[[], bool] = lambda: False) -> Generator[None]:
    """Hold the lane, alone or with others; entered without it once `stop` says so, for then no step will be made."""
    with _lock_file("turnstile") as turnstile, _lock_file("lane") as track:
        _lock(turnstile, fcntl.LOCK_EX, stop)
        _lock(track, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, stop)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        yield


@contextmanager
def _lock_file(name: str) -> Generator[int]:
    path = Path(tempfile.gettempdir()) / f"thalweg-{os.getuid()}.{name}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield file
    finally:
        os.close(file)  # which gives the lock back


def _lock(file: int, kind: int, stop: Callable[[], bool]) -> None:
    while not stop():
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(POLL_SECONDS)
