"""Who does which run. One worker a run, whatever dies at whatever moment.

To claim a run, a worker adds an attempt at it and then reads all attempts. The run is its own if its attempt has the lowest
number among those at the run that are live, in progress or complete; otherwise it ends its attempt as failed.

- *No run is doubled.* Numbers grow, and an attempt that has failed stays failed. So the lowest live attempt at a run changes
  only when it fails, and only it can become complete: its worker reads no lower one, and every other worker reads it.
- *No run is lost.* A worker that dies leaves an attempt in progress, which stops giving signs of life (`beats`); whoever
  notices fails it, and the run is free. A worker that was only slow finds its attempt ended, and its result is dropped.
- *No result is half there.* The record is noted before the attempt becomes complete, and both are atomic.
"""

from collections import Counter
from collections.abc import Iterable

from optuna.trial import TrialState

from thalweg.lab.queue.ledger import Attempt, Ledger


def claim(ledger: Ledger, run: str) -> tuple[int | None, list[Attempt]]:
    """Try to get a run. Returns the attempt's id, None if another worker has the run, and all attempts as just read."""
    mine = ledger.begin(run)
    attempts = ledger.attempts()
    first = next(attempt for attempt in attempts if attempt.run == run and attempt.live)
    if first.id != mine:
        ledger.end(mine, TrialState.FAIL)
        return None, attempts
    ledger.note(mine, "beat", 0)
    return mine, attempts


def release(ledger: Ledger, attempt: int) -> None:
    """Give a run up, so that another worker can do it at once."""
    ledger.note(attempt, "released", True)
    ledger.end(attempt, TrialState.FAIL)


def release_all(ledger: Ledger) -> None:
    """Give up every run that was begun through this ledger and has not ended, also one whose claim was interrupted."""
    for attempt in ledger.attempts():
        if attempt.ours and attempt.state == TrialState.RUNNING:
            release(ledger, attempt.id)


def complete(ledger: Ledger, attempt: int, record: str) -> bool:
    """Hand in a run's record; False if the attempt was taken for dead, and the record dropped."""
    return ledger.note(attempt, "record", record) and ledger.end(attempt, TrialState.COMPLETE)


def deaths(attempts: Iterable[Attempt]) -> Counter[str]:
    """Count the workers that died in each run: attempts that failed, were begun, and were not given up."""
    return Counter(
        attempt.run
        for attempt in attempts
        if attempt.state == TrialState.FAIL and attempt.beat is not None and not attempt.released
    )
