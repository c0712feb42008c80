"""Markdown that shows what it is given: names come from files, and are neither markup nor HTML."""

import re
from collections.abc import Iterable, Sequence

_MEANING = re.compile(r"([\\`*|~]|(?<=\])[(:])")


def escaped(text: str) -> str:
    """Return a text on one line with nothing in it that Markdown or HTML would obey."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MEANING.sub(r"\\\1", plain)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first column is aligned to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    lines = [[escaped(name) for name in columns], rule, *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(sentences: Iterable[str]) -> str:
    """Return a list."""
    return "\n".join(f"- {escaped(sentence)}" for sentence in sentences)


def command(line: str) -> str:
    """Return a command as an indented block, which no text can end."""
    return "    " + " ".join(line.split()).replace("<", "&lt;")
