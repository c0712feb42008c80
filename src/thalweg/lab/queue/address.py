"""Where a storage is. A password in its URL is taken out before anything else sees it, and never said."""

import os
import re
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from thalweg.lab.errors import UserError
from thalweg.lab.untyped import needed

VARIABLE = "THALWEG_STORE"
"""Environment variable with the URL, so that it need not stand in a command line, which every user of a machine can read."""
FORMS = "postgresql://USER:PASSWORD@HOST/DATABASE or journal:PATH"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


def is_url(store: str | None) -> TypeGuard[str]:
    """Whether ``--store`` names a storage rather than a folder."""
    return store is not None and _SCHEME.match(store) is not None


@dataclass(frozen=True)
class Address:
    """A storage: a journal file, or a PostgreSQL database."""

    said: str
    """The URL for people: whom it is asked as and where, and no password."""
    journal: str | None = None
    """Path of the journal file."""
    database: Any = None
    """SQLAlchemy's URL of the database, without the password."""
    password: str = field(default="", repr=False)
    """Empty if it comes from PGPASSWORD or a .pgpass file, where PostgreSQL's own client finds it."""

    def __str__(self) -> str:
        return self.said

    def without_password(self, text: str) -> str:
        """Return a text of somebody else's, such as an error, with the password blotted out."""
        return text.replace(self.password, "***") if self.password else text


def parse(store: str) -> Address:
    """Return the address that a URL means.

    Raises:
        UserError: it means none, or a library that it needs is not installed. The message holds nothing of the URL but its
            scheme, for who knows what the rest is.
    """
    for module in ("optuna", "sqlalchemy", "psycopg"):
        needed(module, "--store URL", "workers")
    match = _SCHEME.match(store)
    scheme = match[1].lower() if match else ""
    if scheme == "journal" and len(store) > len("journal:"):
        path = os.path.abspath(store[len("journal:") :])
        return Address(f"journal:{path}", journal=path)
    if scheme == "postgresql":
        return _database(store)
    what = f"a URL that begins with {scheme}:" if scheme else "not the URL of a storage"
    raise UserError(f"--store is {what}; it must be {FORMS}.")


def _database(store: str) -> Address:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(store)
    except (ArgumentError, ValueError):
        raise UserError(f"--store is a postgresql URL that cannot be read; write {FORMS}.") from None
    if "@" in (url.host or ""):
        raise UserError("--store is a postgresql URL with @ in its password; write %40 there.")
    if not url.database:
        raise UserError(f"--store is a postgresql URL without a database; write {FORMS}.")
    passwords = [url.password, url.query.get("password")]
    password = next((word for word in passwords if isinstance(word, str)), "")
    user = f"{url.username}{':***' if password else ''}@" if url.username else ""
    port = f":{url.port}" if url.port else ""
    bare = url.difference_update_query(["password"]).set(drivername="postgresql+psycopg")._replace(password=None)
    return Address(f"postgresql://{user}{url.host or ''}{port}/{url.database}", database=bare, password=password)
