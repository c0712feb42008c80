"""The data of the report's figures, as plain lists; the scripts beside this file draw them. A failed run's value is null."""

from collections.abc import Mapping
from typing import Any

from thalweg.lab.analysis import Analysis, Cell
from thalweg.lab.contract import TaskTerms
from thalweg.lab.overall import Overall
from thalweg.lab.report.curves import learning_curves, rounded, sharpness
from thalweg.lab.report.targets import performance_profiles, reached, speed_ups
from thalweg.lab.report.tuning import best_of, sensitivity
from thalweg.lab.statistics.paired import Interval

COLOURS = (
    "#7a869a", "#2f80ed", "#12a594", "#e5793a", "#8e5bd0", "#d6408b", "#a8841a", "#5a9e2f", "#c2554d", "#3aa3c9",
)  # fmt: skip
"""Readable on white and on near-black; given out in the order the optimizers entered."""
SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "star",
    "cross",
    "pentagon",
    "hexagram",
    "hourglass",
)
DASHES = ("solid", "dash", "dot", "dashdot")
"""The second ten optimizers have the colours of the first, on another line."""


def figures(analysis: Analysis, overall: Overall) -> dict[str, Any]:
    """Return everything the report's scripts draw."""
    names = [terms.name for terms in analysis.store.contract.optimizers]
    return {
        "optimizers": [
            {
                "name": name,
                "colour": COLOURS[i % len(COLOURS)],
                "symbol": SYMBOLS[i % len(SYMBOLS)],
                "dash": DASHES[i // len(COLOURS) % len(DASHES)],
            }
            for i, name in enumerate(names)
        ],
        "references": analysis.references,
        "tasks": [_task(analysis, task) for task in analysis.store.contract.tasks],
        "improvement": [
            {
                "reference": reference,
                "rows": _rows({name: analysis.improvement(name, reference) for name in names}),
            }
            for reference in analysis.references
        ],
        "scores": _rows(overall.scores),
        "profiles": performance_profiles(overall),
    }


def _rows(found: Mapping[str, Interval | None]) -> list[dict[str, Any]]:
    return [
        {"optimizer": name, "middle": rounded(each.middle), "low": rounded(each.low), "high": rounded(each.high)}
        for name, each in found.items()
        if each is not None
    ]


def _task(analysis: Analysis, task: TaskTerms) -> dict[str, Any]:
    ranked = analysis.of_task(task.name)
    entered = [analysis.cell(task.name, terms.name) for terms in analysis.store.contract.optimizers]
    return {
        "name": task.name,
        "metric": task.metric,
        "unit": task.unit,
        "better": task.better,
        "targets": list(task.targets),
        "curves": [learning_curves(cell) for cell in entered],
        "sensitivity": [sensitivity(cell) for cell in entered],
        "best_of": [best_of(cell) for cell in entered],
        "reached": [reached(cell) for cell in entered],
        "speed_ups": speed_ups(analysis, ranked),
        "finals": [_finals(cell) for cell in ranked if cell.finals],
        "sharpness": [found for cell in entered if (found := sharpness(cell)) is not None],
    }


def _finals(cell: Cell) -> dict[str, Any]:
    median = cell.median
    assert median is not None
    return {
        "optimizer": cell.terms.name,
        "seed": [run.config.seed for run in cell.finals],
        "value": [rounded(run.result.value) for run in cell.finals],
        "state": [run.result.state for run in cell.finals],
        "median": rounded(median.middle),
        "low": rounded(median.low),
        "high": rounded(median.high),
    }
