"""Signs of life. Every worker notes a new number in its attempts now and then; who sees an old one for long knows.

Optuna's own heartbeats are not used. The journal has none; those of databases are experimental, and never count an attempt as
dead whose worker died before its first beat, so its run would be lost. These are the same for both, and compare no clocks of
different machines.
"""

import threading
import time
from collections.abc import Callable, Iterable

from thalweg.lab.errors import UserError
from thalweg.lab.queue.ledger import Attempt, Ledger

BEATS_A_GRACE = 6


class Beats:
    """A thread that gives signs of life for attempts."""

    def __init__(self, ledger: Ledger):
        self._ledger, self._seconds = ledger, ledger.terms.grace_seconds / BEATS_A_GRACE
        self._attempts: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def add(self, attempt: int) -> None:
        """Give signs of life for an attempt from now on."""
        self._attempts.add(attempt)

    def remove(self, attempt: int) -> None:
        """Give no more."""
        self._attempts.discard(attempt)

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        beat = 0
        while not self._over.wait(self._seconds):
            beat += 1
            for attempt in tuple(self._attempts):
                try:
                    self._ledger.note(attempt, "beat", beat)
                except UserError:  # the main thread meets the same, and says it
                    break


class Silence:
    """How long attempts have given no sign of life, as far as this process can tell.

    Only time in which it looked counts, a quarter of the grace at most between two looks: a process that was suspended, or
    a database that was away, finds old numbers, and they prove nothing.
    """

    def __init__(self, grace_seconds: float, clock: Callable[[], float] = time.monotonic):
        self._grace, self._clock = grace_seconds, clock
        self._looked = clock()
        self._silent: dict[int, tuple[int | None, float]] = {}

    def too_long(self, attempts: Iterable[Attempt]) -> list[Attempt]:
        """Return the attempts in progress, of those just read, whose workers must be dead."""
        now = self._clock()
        passed, self._looked = min(now - self._looked, self._grace / 4), now
        before, self._silent = self._silent, {}
        for attempt in attempts:
            beat, seconds = before.get(attempt.id, (attempt.beat, -passed))
            self._silent[attempt.id] = attempt.beat, seconds + passed if beat == attempt.beat else 0.0
        return [attempt for attempt in attempts if self._silent[attempt.id][1] > self._grace]
