"""`thalweg conformance`: the table of `thalweg.conformance`, in the terminal, as Markdown and as JSON."""

import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thalweg._version import __version__
from thalweg.conformance.table import COLUMNS, RULES, Cell, Row, rows
from thalweg.lab.errors import UserError, check_name
from thalweg.lab.options import Jobs, processes_of

PLAIN_WIDTH = 200
"""Columns when the output is no terminal: wide enough that no table breaks its lines."""


def command(
    rules: Annotated[str, typer.Option(help="Rules, separated by commas.")] = ",".join(RULES),
    device: Annotated[str, typer.Option(help="cpu or cuda; FSDP2 is always checked on the CPU.")] = "cpu",
    jobs: Jobs = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Also save as FILE.md or FILE.json.")] = None,
) -> None:
    """Check every rule on this machine: oracle, strategies, checkpoints, sharding. Exit 1 if a promise is broken."""
    chosen = list(dict.fromkeys(check_name("--rules", name.strip(), RULES) for name in rules.split(",")))
    if check_name("--device", device, ("cpu", "cuda")) == "cuda" and not torch.cuda.is_available():
        raise UserError("--device is cuda, and torch finds no CUDA device here.")
    processes = processes_of(jobs)
    if output is not None and output.suffix not in (".md", ".json"):
        raise UserError(f"--output is {output}; it must end in .md or .json.")

    notes = Console(stderr=True, highlight=False)
    found: dict[str, list[Row]] = {}
    with notes.status(f"{len(chosen)} rules") as status:
        for done in rows(chosen, device, processes):
            found[done[0].rule] = done
            failed = sum(not row.passed for row in done)
            notes.print(f"{done[0].rule}: {len(done)} rows, {f'{failed} FAILED' if failed else 'all pass'}")
            status.update(f"{len(chosen) - len(found)} rules left")
    table = [row for rule in chosen for row in found[rule]]
    if as_json:
        print(json.dumps(as_data(table, device), indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False).print(terminal(table, device))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        text = markdown(table, device) if output.suffix == ".md" else json.dumps(as_data(table, device), indent=2)
        output.write_text(text + "\n", encoding="utf-8")
    if failed := [row for row in table if not row.passed]:
        for row in failed:
            for name, cell in row.cells.items():
                if not cell.passed:
                    print(f"{row.rule} {row.strategy} {row.dtype}, {name}: {reason(cell)}", file=sys.stderr)
        raise typer.Exit(1)


def conditions(device: str) -> str:
    """Where and with what the table was measured."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return f"thalweg {__version__} · torch {torch.__version__} · Python {platform.python_version()} · {name}"


def reason(cell: Cell) -> str:
    """Why a cell failed or was skipped."""
    return cell.problem or f"{cell.form} is off by {cell.error:.1e}; allowed is {cell.bound:.0e}"


def as_data(table: list[Row], device: str) -> dict[str, Any]:
    """The table as JSON."""
    lines = [
        {
            "rule": row.rule,
            "strategy": row.strategy,
            "dtype": row.dtype,
            "forms": row.forms,
            "oracles": row.oracles,
            "passed": row.passed,
            "checks": {
                name: {**asdict(cell), "error": None if cell.problem else cell.error, "passed": cell.passed}
                for name, cell in row.cells.items()
            },
        }
        for row in table
    ]
    return {"conditions": conditions(device), "passed": all(row.passed for row in table), "rows": lines}


def terminal(table: list[Row], device: str) -> Table:
    """The table for a terminal."""
    shown = Table(
        "rule", "strategy", "dtype", "forms", *COLUMNS, title=conditions(device), box=None, header_style="dim"
    )
    shown.title_justify = "left"
    for before, row in zip([None, *table], table, strict=False):
        rule = row.rule if before is None or before.rule != row.rule else ""
        strategy = row.strategy if rule or before is None or before.strategy != row.strategy else ""
        cells = [Text(mark(cell), style="" if cell.passed else "bold red") for cell in row.cells.values()]
        shown.add_row(rule, strategy, row.dtype, str(row.forms), *cells)
    return shown


def mark(cell: Cell) -> str:
    """A cell in a few characters: the measured error and the verdict on it."""
    if cell.problem:
        return "–" if cell.skipped else "✗ error"
    return f"{'✓' if cell.passed else '✗'} {cell.error:.0e}" if cell.error else "✓ 0"


def markdown(table: list[Row], device: str) -> str:
    """The table as a page's body: a section a rule."""
    parts = [conditions(device)]
    header = ("strategy", "dtype", "forms", *COLUMNS)
    for rule in dict.fromkeys(row.rule for row in table):
        own = [row for row in table if row.rule == rule]
        oracles = dict.fromkeys(oracle for row in own for oracle in row.oracles)
        lines = [header, ["---"] * len(header)]
        lines += [[r.strategy, r.dtype, str(r.forms), *map(mark, r.cells.values())] for r in own]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"## {rule}\n\nOracle: {'; '.join(oracles)}\n\n{body}")
        skipped = {cell.problem for row in own for cell in row.cells.values() if cell.skipped}
        parts += [f"– not checked here: {problem}" for problem in sorted(skipped)]
    return "\n\n".join(parts)
