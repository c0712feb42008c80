"""What a study says over its tasks together: scores, and performance profiles of the time to targets."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from thalweg.lab.analysis import MEASURES, Analysis, Cell, Measure
from thalweg.lab.statistics.paired import Interval, Values
from thalweg.lab.statistics.profiles import area, profile, ratios
from thalweg.lab.statistics.scores import interquartile_mean_over_tasks, scores


@dataclass(frozen=True)
class Profile:
    """An optimizer's performance profile."""

    optimizer: str
    steps: list[tuple[float, float]]
    """(τ, part of the problems within a factor τ of the fastest)."""
    area: float
    failures: int
    """Final runs that did not end well; they have solved nothing."""


class Overall:
    """A study's tasks together, each number worked out once."""

    def __init__(self, analysis: Analysis):
        self.analysis = analysis

    @cached_property
    def failures(self) -> dict[str, int]:
        """Final runs of each optimizer that did not end well."""
        contract = self.analysis.store.contract
        return {
            terms.name: sum(self.analysis.cell(task.name, terms.name).failures for task in contract.tasks)
            for terms in contract.optimizers
        }

    @cached_property
    def reliable(self) -> list[str]:
        """Those that failed least often: nobody else is called best."""
        return [name for name, failed in self.failures.items() if failed == min(self.failures.values())]

    @cached_property
    def scores(self) -> dict[str, Interval]:
        """The interquartile mean of each optimizer's scores over all tasks; empty while a task has none."""
        found = {name: self._scores(name) for name in self.failures}
        return {name: interquartile_mean_over_tasks(tasks) for name, tasks in found.items() if tasks}

    def _scores(self, optimizer: str) -> list[Values]:
        contract = self.analysis.store.contract
        found = [_scores(self.analysis, self.analysis.cell(task.name, optimizer)) for task in contract.tasks]
        return [each for each in found if each is not None] if all(each is not None for each in found) else []

    @cached_property
    def unscored(self) -> list[str]:
        """Tasks without scores: what would score 1 there is no better than the untrained network, which scores 0."""
        tasks = [task.name for task in self.analysis.store.contract.tasks]
        scales = {task: [_scale(self.analysis, cell) for cell in self.analysis.of_task(task)] for task in tasks}
        return [task for task, found in scales.items() if any(scale and not scale[0] < scale[1] for scale in found)]

    @cached_property
    def profiles(self) -> dict[Measure, list[Profile]]:
        """The performance profiles in every measure, over every target of every task on every seed; empty without targets and
        while a final run is missing."""
        return {measure: self._profiles(measure) for measure in MEASURES}

    def _profiles(self, measure: Measure) -> list[Profile]:
        contract = self.analysis.store.contract
        seeds, names = len(contract.final_seeds), list(self.failures)
        times: list[Values] = []
        weights: list[Values] = []
        for task in contract.tasks:
            cells = [self.analysis.cell(task.name, name) for name in names]
            if any(len(cell.finals) < seeds for cell in cells):
                return []
            if problems := seeds * len(task.targets):
                times.append(np.array([cell.times[measure].reached.ravel() for cell in cells]))
                weights.append(np.full(problems, 1 / problems))
        if not times:
            return []
        found, weight = ratios(np.concatenate(times, axis=1)), np.concatenate(weights) / len(weights)
        return [
            Profile(name, profile(row, weight), area(row, weight), self.failures[name])
            for name, row in zip(names, found, strict=True)
        ]


def _scores(analysis: Analysis, cell: Cell) -> Values | None:
    """Return the scores of a cell's final runs; None while runs are missing, or where the goal is not above the untrained."""
    scale = _scale(analysis, cell)
    return scores(cell.oriented, *scale) if scale and scale[0] < scale[1] else None


def _scale(analysis: Analysis, cell: Cell) -> tuple[float, float] | None:
    """Return what scores 0 and what scores 1, oriented; None while runs are missing."""
    untrained, goal = cell.untrained, _goal(analysis, cell)
    if len(cell.finals) < len(analysis.store.contract.final_seeds) or untrained is None or goal is None:
        return None
    return untrained, goal


def _goal(analysis: Analysis, cell: Cell) -> float | None:
    """Return what scores 1, oriented: the hardest target, or the first reference's median."""
    if cell.task.targets:
        return cell.sign * cell.task.targets[-1]
    if not analysis.references or not (median := analysis.cell(cell.task.name, analysis.references[0]).median):
        return None
    return cell.sign * median.middle
