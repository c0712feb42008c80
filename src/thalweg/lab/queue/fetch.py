"""Finished runs of a shared study, written as the plain folders that reports, exports and merges read."""

from thalweg.lab.queue.board import View
from thalweg.lab.queue.ledger import Ledger
from thalweg.lab.store import Store


def fetch(ledger: Ledger, store: Store) -> None:
    """Write the finished runs that a study's folder does not have yet.

    Raises:
        UserError: the storage cannot be reached, or the folder not written.
    """
    stored = store.finished()
    for config, record in View(ledger).update(ledger.attempts()):
        if config.path in stored:
            continue
        folder = store.run(config)
        folder.begin(config, record.environment)
        for point in record.curve:
            folder.add(point)
        folder.finish(record.result)
