"""Libraries without type information, imported as `Any`: what comes from them is given its type where it is used."""

from importlib import import_module
from typing import Any


def untyped(module: str) -> Any:
    """Import a module that has no types."""
    return import_module(module)
