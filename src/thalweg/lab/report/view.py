"""The words and tables of the report."""

from typing import Any

import numpy as np

from thalweg.lab.analysis import USABLE_MARGINS, Analysis, Cell
from thalweg.lab.contract import TaskTerms
from thalweg.lab.lights import lights
from thalweg.lab.overall import Overall
from thalweg.lab.report.curves import MOST_SEEDS
from thalweg.lab.report.times import overall_rows, target_tables, target_values, unscored, untargeted
from thalweg.lab.reproduce import command
from thalweg.lab.show import (
    SEARCHED,
    SIGNS,
    against,
    describe,
    fixed,
    median,
    number,
    point,
    schedule,
    searched,
    signed,
    sped_up,
    unresolved,
    warnings,
)
from thalweg.lab.statistics.paired import Comparison, Interval


def view(analysis: Analysis, overall: Overall) -> dict[str, Any]:
    """Return everything the template fills in."""
    contract = analysis.store.contract
    reference = analysis.references[0] if analysis.references else None
    found = lights(analysis)
    return {
        "title": contract.suite if contract.suite != "tasks" else ", ".join(task.name for task in contract.tasks),
        "contract": contract,
        "json": contract.model_dump_json(indent=2),
        "done": len(analysis.runs),
        "reference": reference,
        "references": analysis.references,
        "headlines": _headlines(analysis, reference) if reference else [],
        "matrix": _matrix(analysis, reference),
        "unresolved": unresolved(analysis),
        "warnings": warnings(contract),
        "searched": SEARCHED[contract.ruleset],
        "against": against(contract, reference) if reference else "",
        "lights": [light for light in found if light.level != "red"],
        "red": [light for light in found if light.level == "red"],
        "tasks": [
            {"terms": task, "rows": _final_rows(analysis, task), "also": list(_also(analysis, task))}
            for task in contract.tasks
        ],
        "overall": overall_rows(analysis, overall),
        "unscored": unscored(overall),
        "targets": target_tables(analysis),
        "target_values": {task.name: target_values(task) for task in contract.tasks},
        "levels": max(len(task.targets) for task in contract.tasks),
        "untargeted": untargeted(analysis),
        "most_seeds": MOST_SEEDS if len(contract.final_seeds) > MOST_SEEDS else None,
        "sharp": any(cell.sharpness for cell in analysis.cells),
        "timed": any(cell.timing for cell in analysis.cells),
        "cost": _cost(analysis),
        "spaces": [
            [terms.name, searched(contract, terms), fixed(terms.entry), schedule(terms.entry)]
            for terms in contract.optimizers
        ],
        "command": command(contract),
        "usable_margins": USABLE_MARGINS,
        "environments": analysis.environments,
    }


def _headlines(analysis: Analysis, reference: str) -> list[dict[str, Any]]:
    """Sort the optimizers by what they did against the reference, task by task."""
    found: list[dict[str, Any]] = []
    for terms in analysis.store.contract.optimizers:
        verdicts: dict[str, list[str]] = {verdict: [] for verdict in SIGNS}
        for task in analysis.store.contract.tasks:
            comparison = analysis.comparison(analysis.cell(task.name, terms.name), reference)
            if comparison is not None:
                verdicts[comparison.verdict].append(task.name)
        if terms.name != reference:
            chance = analysis.improvement(terms.name, reference)
            found.append(
                {
                    "name": terms.name,
                    "verdicts": verdicts,
                    "chance": chance,
                    "speed_ups": _speed_ups(analysis, terms.name, reference),
                }
            )
    return sorted(found, key=lambda row: -row["chance"].middle if row["chance"] else 0.0)


def _speed_ups(analysis: Analysis, optimizer: str, reference: str) -> list[dict[str, str]]:
    """Return an optimizer's speed-ups, task by task."""
    cells = [analysis.cell(task.name, optimizer) for task in analysis.store.contract.tasks]
    return [
        {"task": cell.task.name, "ratio": sped_up(found), "verdict": found.verdict, "sign": SIGNS[found.verdict]}
        for cell in cells
        if (found := analysis.speed_up(cell, reference)) is not None
    ]


def _also(analysis: Analysis, task: TaskTerms) -> dict[str, None]:
    """Return the names of a task's other metrics."""
    return {name: None for cell in analysis.of_task(task.name) for name in cell.also}


def _matrix(analysis: Analysis, reference: str | None) -> list[dict[str, Any]]:
    """Return a row an optimizer, a cell a task."""
    rows: list[dict[str, Any]] = []
    for terms in analysis.store.contract.optimizers:
        cells = [analysis.cell(task.name, terms.name) for task in analysis.store.contract.tasks]
        rows.append({"name": terms.name, "cells": [_matrix_cell(analysis, cell, reference) for cell in cells]})
    return rows


def _matrix_cell(analysis: Analysis, cell: Cell, reference: str | None) -> dict[str, Any]:
    comparison = analysis.comparison(cell, reference) if reference else None
    best = analysis.leader(cell.task.name) is cell
    return {
        "value": median(cell),
        "failures": cell.failures,
        "best": best,
        "verdict": comparison.verdict if comparison else "",
        "sign": SIGNS[comparison.verdict] if comparison else "",
        "detail": describe(comparison, cell.task.unit) if comparison else "the reference",
    }


def _final_rows(analysis: Analysis, task: TaskTerms) -> list[dict[str, Any]]:
    return [
        {
            "name": cell.terms.name,
            "point": point(cell.point),
            "median": median(cell),
            "interval": _ends(cell.median),
            "interquartile": number(cell.interquartile_mean) if cell.finals else "–",
            "also": [number(cell.also[name]) if name in cell.also else "–" for name in _also(analysis, task)],
            "test": _test(cell),
            "failures": cell.failures,
            "against": [_against(analysis.comparison(cell, reference), task.unit) for reference in analysis.references],
        }
        for cell in analysis.of_task(task.name)
    ]


def _ends(found: Interval | None) -> str:
    return f"{number(found.low)} … {number(found.high)}" if found else "–"


def _against(comparison: Comparison | None, unit: str) -> dict[str, str]:
    if comparison is None:
        return {"verdict": "", "sign": "", "difference": "–", "improvement": "–", "detail": "itself"}
    difference, detectable = comparison.difference, comparison.detectable
    return {
        "verdict": comparison.verdict,
        "sign": SIGNS[comparison.verdict],
        "difference": "by ranks" if difference is None else signed(difference),
        "improvement": f"{comparison.improvement:.2f}",
        "detail": comparison.verdict + ("" if detectable is None else f"; detectable: {detectable:.2g} {unit}"),
    }


def _test(cell: Cell) -> str:
    """Return the median on the test split over all seeds, failures as the worst value."""
    if not cell.finals:
        return "–"
    worst = -np.inf if cell.task.better == "max" else np.inf
    return number(float(np.median([worst if run.result.test is None else run.result.test for run in cell.finals])))


def _cost(analysis: Analysis) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for terms in analysis.store.contract.optimizers:
        cells = [analysis.cell(task.name, terms.name) for task in analysis.store.contract.tasks]
        runs = [run for cell in cells for run in cell.runs]
        states = [r for run in runs if (r := run.result.state_bytes_per_parameter) is not None]
        rows.append(
            {
                "name": terms.name,
                "milliseconds": [f"{cell.milliseconds:.2f}" if cell.milliseconds else "–" for cell in cells],
                "state": f"{max(states):.1f}" if states else "–",
                "gradients": f"{sum(run.result.charged for run in runs):,.0f}",
                "seconds": f"{sum(run.result.seconds for run in runs):.0f}",
                "tuning": f"{sum(not run.result.ok for cell in cells for run in cell.tuning)}",
                "final": f"{sum(cell.failures for cell in cells)}",
            }
        )
    return rows
