"""Outcomes as a table for the terminal, as lines, as CSV and as plain data."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from thalweg.lab.verify.references import Group
from thalweg.lab.verify.run import Outcome

COLUMNS = ("name", "ours", "low", "high", "reference", "tolerance", "passed", "seconds", "error")


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
            reference.name, ours, spread, f"{reference.value:.3f}", f"± {reference.tolerance:g}", verdict, seconds,
            style="" if outcome else "dim",
        )  # fmt: skip
    return Stack(shown, Text(f"References: {group.source}.", style="dim"))


def line(outcome: Outcome) -> str:
    """One outcome, where nothing can be drawn over."""
    ours, spread = _ours(outcome)
    reference = outcome.reference
    verdict = _verdict(outcome).plain
    return f"{reference.name}: {ours} {spread}, reference {reference.value:.3f} ± {reference.tolerance:g}: {verdict}"


def _ours(outcome: Outcome) -> tuple[str, str]:
    found = outcome.ours
    return ("–", "") if found is None else (f"{found.value:.3f}", f"[{found.low:.3f}, {found.high:.3f}]")


def _verdict(outcome: Outcome) -> Text:
    if outcome.passed:
        return Text("✓ pass", style="green")
    return Text("✗ FAIL" if outcome.ours else "✗ ERROR", style="bold red")


def row(outcome: Outcome) -> dict[str, Any]:
    """One outcome, flat."""
    found, reference = outcome.ours, outcome.reference
    ours = (None, None, None) if found is None else (found.value, found.low, found.high)
    values = (
        reference.name,
        *ours,
        reference.value,
        reference.tolerance,
        outcome.passed,
        outcome.seconds,
        outcome.error,
    )
    return dict(zip(COLUMNS, values, strict=True))


def as_csv(outcomes: Sequence[Outcome]) -> str:
    """One line an outcome."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row(outcome).values() for outcome in outcomes)
    return text.getvalue()


def as_data(group: Group, outcomes: Sequence[Outcome], traces: bool = False) -> dict[str, Any]:
    """A group, plain; with the runs behind it if they are wanted."""
    lines = [row(o) | ({"trace": o.ours.trace} if traces and o.ours else {}) for o in outcomes]
    return {
        "what": group.what,
        "source": group.source,
        "passed": len(lines) == len(group.references) and all(o.passed for o in outcomes),
        "references": lines,
    }
