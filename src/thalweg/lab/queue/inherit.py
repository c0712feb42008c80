"""A shared study begins with what is done of the studies that it extends, if the same storage holds them."""

from itertools import chain

from optuna.trial import TrialState

from thalweg.lab.growth import extends
from thalweg.lab.queue.claims import claim, complete, release_all
from thalweg.lab.queue.ledger import Ledger


def inherit(ledger: Ledger) -> None:
    """Hand in the finished runs of all studies that this one extends, unless somebody has them already.

    Several processes may at once: each run is claimed first, as if it were to be done.

    Raises:
        UserError: the storage cannot be reached.
    """
    taken = {attempt.run for attempt in ledger.attempts() if attempt.live}
    extended = [older for older in ledger.others() if extends(ledger.contract, older.contract)]
    try:
        for attempt in chain.from_iterable(older.attempts() for older in extended):
            if attempt.state != TrialState.COMPLETE or attempt.record is None or attempt.run in taken:
                continue
            taken.add(attempt.run)
            mine, _ = claim(ledger, attempt.run)
            if mine is not None:
                complete(ledger, mine, attempt.record)
    except BaseException:  # Ctrl-C too: nobody is to wait until this process is taken for dead
        release_all(ledger)
        raise
