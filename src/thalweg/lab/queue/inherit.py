"""A shared study begins with what is done of the studies that it extends, if the same storage holds them."""

from optuna.trial import TrialState

from thalweg.lab.growth import extends
from thalweg.lab.queue.claims import claim, complete
from thalweg.lab.queue.ledger import Ledger


def inherit(ledger: Ledger) -> None:
    """Hand in the finished runs of all studies that this one extends, unless somebody has them already.

    Several processes may at once: each run is claimed first, as if it were to be done.

    Raises:
        UserError: the storage cannot be reached.
    """
    taken = {attempt.run for attempt in ledger.attempts() if attempt.live}
    for older in ledger.others():
        if not extends(ledger.contract, older.contract):
            continue
        for attempt in older.attempts():
            if attempt.state != TrialState.COMPLETE or attempt.record is None or attempt.run in taken:
                continue
            taken.add(attempt.run)
            mine, _ = claim(ledger, attempt.run)
            if mine is not None:
                complete(ledger, mine, attempt.record)
