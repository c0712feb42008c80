"""What a user did that cannot be done, said in one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A request that cannot be served. The message names the argument, its value and what is allowed."""


class Missing(UserError):
    """Files or a library that this machine lacks."""


def check_name(kind: str, name: str, allowed: Iterable[str]) -> str:
    """Return `name` if it is allowed.

    Raises:
        UserError: it is not; the message suggests the nearest allowed names.
    """
    known = sorted(allowed)
    if name in known:
        return name
    near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"{kind} {name!r} is unknown.{hint} Known: {', '.join(known)}.")


def check_range(argument: str, value: int, low: int, high: int) -> int:
    """Return `value` if ``low <= value <= high``.

    Raises:
        UserError: it lies outside.
    """
    if not low <= value <= high:
        raise UserError(f"{argument} is {value}; it must lie between {low} and {high}.")
    return value
