"""Libraries without type information, imported as `Any`: what comes from them is given its type where it is used."""

from importlib import import_module
from typing import Any

from thalweg.lab.errors import Missing


def untyped(module: str) -> Any:
    """Import a module that has no types."""
    return import_module(module)


def needed(module: str, who: str, extra: str) -> Any:
    """Import a module that comes with one of our extras.

    Raises:
        Missing: it is not installed; the message says who needs it and the command that gets it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise Missing(f'{error.name} is not installed; {who} needs: pip install "thalweg[{extra}]"') from error
