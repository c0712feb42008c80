"""The command line of `thalweg doctor`."""

from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from thalweg.lab.doctor import checks
from thalweg.lab.doctor.checks import Finding, State
from thalweg.lab.doctor.extras import extras
from thalweg.lab.options import Data, Json, Quiet, console, print_json
from thalweg.lab.plain import plain

CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    checks.accelerator,
    checks.versions,
    checks.machine,
    checks.compiler,
    extras,
    checks.data,
    checks.folders,
    checks.references,
)
MARKS: dict[State, tuple[str, str]] = {"ok": ("✓", "green"), "absent": ("–", "dim"), "broken": ("✗", "bold red")}
"""How a state is shown, and in which style."""


def command(
    data: Data = None,
    full: Annotated[bool, typer.Option("--full", help="Also compile something, which takes some seconds.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what is installed and found, and what to do about what is not. Exit 1 if something is broken.

    Nothing is changed. What is merely absent is nothing to worry about, unless it is wanted.
    """
    chosen = (*CHECKS, checks.compiled) if full else CHECKS
    found = [finding for check in chosen for finding in check()]
    broken = [finding for finding in found if finding.state == "broken"]
    console(as_json, quiet).print(table(found))
    if as_json:
        print_json({"broken": len(broken), "findings": [plain(finding) for finding in found]})
    if broken:
        raise typer.Exit(1)


def table(found: list[Finding]) -> Table:
    """Everything, a line each; remedies below what they are for."""
    shown = Table("", "", "found", box=None, header_style="dim", pad_edge=False)
    for finding in found:
        mark, style = MARKS[finding.state]
        words = Text(finding.found, style="dim" if finding.state == "absent" else "")
        if finding.remedy:
            words.append(f"\n→ {finding.remedy}", style="yellow" if finding.state == "broken" else "dim")
        shown.add_row(Text(mark, style=style), Text(finding.what), words)
    return shown
