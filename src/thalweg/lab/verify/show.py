"""Outcomes as a table for the terminal, as lines, as CSV and as plain data."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from thalweg.lab.plain import csv_text
from thalweg.lab.verify.references import Group, Reference
from thalweg.lab.verify.run import Outcome, Verdict

COLUMNS = ("name", "ours", "low", "high", "reference", "tolerance", "verdict", "seconds", "error", "missing")
MARKS: dict[Verdict, tuple[str, str]] = {
    "pass": ("✓ pass", "green"),
    "fail": ("✗ FAIL", "bold red"),
    "error": ("✗ ERROR", "bold red"),
    "no files": ("– no files", "yellow"),
}
"""How a verdict is shown, and in which style."""


def table(group: Group, done: Mapping[str, Outcome]) -> RenderableType:
    """All references of a group; those not measured yet are dim."""
    shown = Table(title=group.what, title_justify="left", title_style="bold", box=None, header_style="dim")
    shown.add_column("reference", no_wrap=True)
    for column in ("ours", "", "reference", "tolerance", "", "s"):
        shown.add_column(column, justify="right" if column else "left", no_wrap=True)
    for reference in group.references:
        outcome = done.get(reference.name)
        ours, spread = ("…", "") if outcome is None else _ours(outcome)
        verdict = Text() if outcome is None else _verdict(outcome)
        seconds = f"{outcome.seconds:.1f}" if outcome else ""
        shown.add_row(
            reference.name, ours, spread, number(reference, reference.value), f"± {reference.tolerance:g}", verdict, seconds,
            style="" if outcome else "dim",
        )  # fmt: skip
    return Stack(shown, Text(f"References: {group.source}.", style="dim"))


def line(outcome: Outcome) -> str:
    """One outcome, where nothing can be drawn over."""
    ours, spread = _ours(outcome)
    reference = outcome.reference
    known = f"reference {number(reference, reference.value)} ± {reference.tolerance:g}"
    return f"{reference.name}: {ours} {spread}, {known}: {_verdict(outcome).plain}"


def number(reference: Reference, value: float) -> str:
    """A value in as many digits as its reference is shown in."""
    return f"{value:.{reference.places}f}"


def _ours(outcome: Outcome) -> tuple[str, str]:
    found, reference = outcome.ours, outcome.reference
    if found is None:
        return "–", ""
    low, high = (number(reference, end) for end in (found.low, found.high))
    return number(reference, found.value), "" if low == high else f"[{low}, {high}]"


def _verdict(outcome: Outcome) -> Text:
    words, style = MARKS[outcome.verdict]
    return Text(words, style=style)


def row(outcome: Outcome) -> dict[str, Any]:
    """One outcome, flat."""
    found, reference = outcome.ours, outcome.reference
    ours = (None, None, None) if found is None else (found.value, found.low, found.high)
    values = (
        reference.name,
        *ours,
        reference.value,
        reference.tolerance,
        outcome.verdict,
        outcome.seconds,
        outcome.error,
        outcome.missing,
    )
    return dict(zip(COLUMNS, values, strict=True))


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """One line an outcome."""
    return csv_text(COLUMNS, (row(outcome).values() for outcome in outcomes))


def as_data(group: Group, outcomes: Sequence[Outcome], traces: bool = False) -> dict[str, Any]:
    """A group, plain; with the runs behind it if they are wanted."""
    lines = [row(o) | ({"trace": o.ours.trace} if traces and o.ours else {}) for o in outcomes]
    return {
        "what": group.what,
        "source": group.source,
        "passed": len(lines) == len(group.references) and all(outcome.verdict == "pass" for outcome in outcomes),
        "references": lines,
    }
