"""A study of robustness as files: STUDY/report.html, and STUDY/report.md with the same table."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.lab.analysis import Analysis
from thalweg.lab.lights import lights
from thalweg.lab.markdown import escaped, listed
from thalweg.lab.page import write_page, write_text
from thalweg.lab.plain import plain
from thalweg.lab.reproduce import command
from thalweg.lab.robustness.outcome import headlines, rows
from thalweg.lab.robustness.show import COLUMNS, NOTES, cells, sentence, tiles, width
from thalweg.lab.robustness.sweep import Panel, Sweep, panels
from thalweg.lab.show import fixed, plan, schedule, searched


def write_report(analysis: Analysis) -> Path:
    """Write STUDY/report.md and STUDY/report.html and return the latter's path.

    Raises:
        UserError: a file cannot be written.
    """
    folder = analysis.store.folder
    found = panels(analysis)
    write_text(folder / "report.md", f"STUDY {folder}", markdown(analysis, found))
    data = plain([_panel(panel) for panel in found])
    return write_page(folder / "report.html", f"STUDY {folder}", "robustness", view=_view(analysis, found), data=data)


def markdown(analysis: Analysis, found: list[Panel]) -> str:
    """Say the study in Markdown: what was done, the table, what its words mean, the command."""
    contract = analysis.store.contract
    table = rows(found)
    head = [" | ".join(COLUMNS), " | ".join(["---", "---", *["---:"] * (len(COLUMNS) - 2)])]
    lines = [f"| {line} |" for line in [*head, *(" | ".join(map(escaped, cells(row))) for row in table)]]
    warned = [f"{light.title}: {light.detail}" for light in lights(analysis) if light.level != "green"]
    blocks = [
        plan(contract),
        listed(sentence(headline) for headline in headlines(table)),
        "\n".join(lines),
        "\n".join(f"- {note}" for note in _notes(analysis)),
        listed(warned),
        f"```sh\n{command(contract)}\n```",
        f"Contract {contract.hash}, {len(analysis.runs)} of {contract.runs} runs, {datetime.now(UTC).date()}.",
        "\n".join(environment.said for environment in analysis.store.environments()),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _notes(analysis: Analysis) -> list[str]:
    return [note.format(ceiling=analysis.store.contract.diverged_above) for note in NOTES]


def _view(analysis: Analysis, found: list[Panel]) -> dict[str, Any]:
    """What the template says in words."""
    contract, table = analysis.store.contract, rows(found)
    return {
        "title": contract.suite if contract.suite != "tasks" else ", ".join(task.name for task in contract.tasks),
        "contract": contract,
        "json": contract.model_dump_json(indent=2),
        "done": len(analysis.runs),
        "plan": plan(contract),
        "headlines": [
            {"name": headline.optimizer, "over": headline.over, "tiles": tiles(headline)}
            for headline in headlines(table)
        ],
        "columns": COLUMNS,
        "rows": [{"over": row.over, "cells": cells(row)} for row in table],
        "notes": _notes(analysis),
        "lights": lights(analysis),
        "spaces": [
            [terms.name, searched(contract, terms), fixed(terms.entry), schedule(terms.entry)]
            for terms in contract.optimizers
        ],
        "command": command(contract),
        "environments": analysis.store.environments(),
    }


def _panel(panel: Panel) -> dict[str, Any]:
    """Everything robustness.js draws of a panel. A run that diverged has no loss."""
    untrained = [run.curve[0].validation_loss for run in panel.plain.cell.finals if run.curve]
    return {
        "task": panel.task.name,
        "plain": panel.plain.name,
        "best": None if panel.plain.cell.point is None else panel.plain.cell.point["lr"],
        "untrained": float(np.median([loss for loss in untrained if loss is not None])) if untrained else None,
        "sweeps": [_sweep(panel, sweep) for sweep in panel.sweeps],
    }


def _sweep(panel: Panel, sweep: Sweep) -> dict[str, Any]:
    usable = panel.usable(sweep) if panel.complete else None
    return {
        "optimizer": sweep.name,
        "lr": sweep.rates,
        "multiple": sweep.multiples,
        "median": sweep.losses,
        "accuracy": sweep.accuracies,
        "seeds": [[ending.seed for ending in found] for found in sweep.endings],
        "losses": [[ending.loss for ending in found] for found in sweep.endings],
        "diverged": [sum(ending.diverged for ending in found) for found in sweep.endings],
        "usable": None if usable is None else [usable.low, usable.high],
        "width": width(panel.width(sweep)),
    }
