"""Optuna's storage of an address: opened, called, and its errors said in one line without a password."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from thalweg.lab.errors import UserError
from thalweg.lab.queue.address import Address
from thalweg.lab.queue.journal import open_journal

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Waits for a database that was reached before and is away: it may be starting again."""
SETUP_SECONDS = (0.5, 1.0, 2.0)
"""Waits for the tables, which another process may be making."""

T = TypeVar("T")


class Storage:
    """An open storage, to be called with operations on it.

    Raises:
        UserError: it cannot be reached; so do all its operations.
    """

    def __init__(self, address: Address, create: bool):
        self.address = address
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self._said():
            self._storage = self._connect() if address.journal is None else open_journal(address.journal, create)

    def __call__(self, operation: Callable[[BaseStorage], T]) -> T:
        """Do an operation; a database that is away for a minute is waited for."""
        with self._said():
            for wait in RETRY_SECONDS:
                try:
                    return operation(self._storage)
                except (SQLAlchemyError, StorageInternalError) as error:
                    if not isinstance(_cause(error), OperationalError | InterfaceError):
                        raise
                    time.sleep(wait)
            return operation(self._storage)

    def _connect(self) -> BaseStorage:
        arguments = {"password": self.address.password} if self.address.password else {}
        # No pool: runs take seconds and more, and a server has fewer connections than a cluster has workers.
        options = {"connect_args": arguments, "poolclass": NullPool}
        url = self.address.database.render_as_string(hide_password=True)
        for wait in SETUP_SECONDS:
            try:
                return get_storage(RDBStorage(url, options))
            except (SQLAlchemyError, StorageInternalError) as error:
                if isinstance(_cause(error), OperationalError):
                    raise
                time.sleep(wait)
        return get_storage(RDBStorage(url, options))

    @contextmanager
    def _said(self) -> Generator[None]:
        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            cause = _cause(error)
            said = str(getattr(cause, "orig", None) or type(cause).__name__).strip().splitlines()[0]
            raise UserError(f"--store {self.address}: {self.address.without_password(said)}") from None
        except OSError as error:
            raise UserError(f"--store {self.address}: {error.strerror or error}") from None


def _cause(error: Exception) -> BaseException | None:
    return error.__cause__ if isinstance(error, StorageInternalError) else error
