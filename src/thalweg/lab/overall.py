"""What a study says over its tasks together: scores, and performance profiles of the time to targets."""

from dataclasses import dataclass

import numpy as np

from thalweg.lab.analysis import Analysis, Cell, Measure
from thalweg.lab.profiles import area, profile, ratios
from thalweg.lab.scores import interquartile_mean_over_tasks, scores
from thalweg.lab.statistics import Interval, Values


@dataclass(frozen=True)
class Profile:
    """An optimizer's performance profile."""

    optimizer: str
    steps: list[tuple[float, float]]
    """(τ, part of the problems within a factor τ of the fastest)."""
    area: float
    failures: int
    """Final runs that did not end well; they have solved nothing."""


def score(analysis: Analysis, optimizer: str) -> Interval | None:
    """Return the interquartile mean of an optimizer's scores over all tasks; None while a task has none."""
    cells = [analysis.cell(task.name, optimizer) for task in analysis.store.contract.tasks]
    found = [task for cell in cells if (task := _scores(analysis, cell)) is not None]
    return interquartile_mean_over_tasks(found) if found and len(found) == len(cells) else None


def _scores(analysis: Analysis, cell: Cell) -> Values | None:
    """Return the scores of a cell's final runs; None while runs are missing, or where the goal is not above the untrained."""
    untrained, goal = cell.untrained, _goal(analysis, cell)
    if len(cell.finals) < len(analysis.store.contract.final_seeds) or untrained is None or goal is None:
        return None
    return scores(cell.oriented, untrained, goal) if np.isfinite(goal) and goal > untrained else None


def _goal(analysis: Analysis, cell: Cell) -> float | None:
    """Return what scores 1, oriented: the hardest target, or the first reference's median."""
    if cell.task.targets:
        return cell.sign * cell.task.targets[-1]
    if not analysis.references or not (median := analysis.cell(cell.task.name, analysis.references[0]).median):
        return None
    return cell.sign * median.middle


def profiles(analysis: Analysis, measure: Measure = "charged") -> list[Profile]:
    """Return the performance profiles over every target of every task on every seed; empty without targets and while a final
    run is missing."""
    contract = analysis.store.contract
    seeds, names = len(contract.final_seeds), [terms.name for terms in contract.optimizers]
    times: list[Values] = []
    weights: list[Values] = []
    for task in contract.tasks:
        cells = [analysis.cell(task.name, name) for name in names]
        if any(len(cell.finals) < seeds for cell in cells):
            return []
        if problems := seeds * len(task.targets):
            times.append(np.array([cell.times[measure].reached.ravel() for cell in cells]))
            weights.append(np.full(problems, 1 / problems))
    if not times:
        return []
    found, weight = ratios(np.concatenate(times, axis=1)), np.concatenate(weights) / len(weights)
    failures = [sum(analysis.cell(task.name, name).failures for task in contract.tasks) for name in names]
    return [
        Profile(name, profile(row, weight), area(row, weight), failed)
        for name, row, failed in zip(names, found, failures, strict=True)
    ]
