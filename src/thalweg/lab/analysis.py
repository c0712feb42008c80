"""A study's stored runs, put together: cells, comparisons with the references, validity lights.

The terminal's table, the JSON output and the report all show this and compute nothing of their own.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from thalweg.lab.contract import EntryTerms, Ruleset, TaskTerms
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.sensitivity import UsableRange, usable_range
from thalweg.lab.statistics import Comparison, Interval, Values, compare, improvement_over_tasks, median_interval
from thalweg.lab.store import Store
from thalweg.lab.study import aside_runs, cells, last_runs, tuning_runs, winner

REFERENCES: dict[Ruleset, tuple[str, ...]] = {
    "tuned": ("adamw", "momentum"),
    "hands-off": ("adamw", "adamw_schedule_free", "momentum"),
    "robustness": (),
}
"""What every optimizer is compared with, in the same study; in a sweep, each is with what it steers."""
USABLE_MARGINS = 5
"""A learning rate is usable when it loses at most so many of the task's margins against the best trial."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    config: RunConfig
    result: Result
    store: Store

    @cached_property
    def curve(self) -> list[CurvePoint]:
        """The run's curve, read when first wanted."""
        return self.store.run(self.config).curve()


@dataclass(frozen=True)
class Cell:
    """One optimizer on one task."""

    task: TaskTerms
    terms: EntryTerms
    tuning: list[Run]
    finals: list[Run]
    """The runs that are reported; in a sweep, those at every multiple."""
    point: dict[str, float] | None
    """What tuning selected, or the default hands off; None while tuning is unfinished."""
    sharpness: Run | None = None
    timing: Run | None = None

    @property
    def runs(self) -> list[Run]:
        """Every finished run of the cell."""
        return self.tuning + self.finals + [run for run in (self.sharpness, self.timing) if run is not None]

    @property
    def sign(self) -> int:
        """What turns the metric into "larger is better"."""
        return 1 if self.task.better == "max" else -1

    @cached_property
    def oriented(self) -> Values:
        """Final values, one a seed, larger is better, failures −∞."""
        return np.array([self._orient(run.result.value) for run in self.finals])

    def _orient(self, value: float | None) -> float:
        return -np.inf if value is None else self.sign * value

    @property
    def median(self) -> Interval | None:
        """The final values' median and its interval in the metric's own unit; failures are infinitely bad."""
        if not self.finals:
            return None
        found = median_interval(self.oriented)
        ends = sorted([self.sign * found.low, self.sign * found.high])
        return Interval(self.sign * found.middle, *ends)

    @property
    def failures(self) -> int:
        """Final runs that did not end well."""
        return sum(not run.result.ok for run in self.finals)

    @property
    def usable(self) -> UsableRange | None:
        """The learning rates among the tuning runs that come within `USABLE_MARGINS` of the best."""
        trials = [
            (run.config.point["lr"], None if run.result.value is None else self._orient(run.result.value))
            for run in self.tuning
        ]
        return usable_range(trials, USABLE_MARGINS * self.task.margin)

    @property
    def at_boundary(self) -> bool:
        """Whether the selected learning rate is the lowest or the highest tried."""
        rates = [point["lr"] for point in self.terms.points]
        return self.point is not None and len(rates) > 2 and self.point["lr"] in (min(rates), max(rates))

    @property
    def milliseconds(self) -> float | None:
        """Milliseconds of a training step, gradient included: of the timing run, or the final runs' median on the CPU."""
        if self.timing is not None and self.timing.result.milliseconds is not None:
            return self.timing.result.milliseconds
        steps = [1e3 * run.result.seconds / run.result.steps for run in self.finals if run.result.steps]
        return float(np.median(steps)) if steps else None


@dataclass(frozen=True)
class Analysis:
    """Everything a study's runs say so far."""

    store: Store
    cells: list[Cell]

    @classmethod
    def of(cls, store: Store) -> "Analysis":
        """Read a study."""
        results = store.finished()

        def runs(configs: list[RunConfig]) -> list[Run]:
            return [Run(config, results[config.path], store) for config in configs if config.path in results]

        found: list[Cell] = []
        for task, terms in cells(store.contract):
            tuning = runs(tuning_runs(store.contract, task, terms))
            trial = winner(store.contract, task, terms, results)
            if trial is None:
                found.append(Cell(task, terms, tuning, [], None))
                continue
            beside = {
                phase: next(iter(runs(aside_runs(store.contract, task, terms, trial, phase))), None)
                for phase in store.contract.aside
            }
            point = store.contract.tuned_as(terms).points[trial]
            finals = runs(last_runs(store.contract, task, terms, trial))
            found.append(Cell(task, terms, tuning, finals, point, **beside))
        return cls(store, found)

    @property
    def runs(self) -> list[Run]:
        """Every finished run."""
        return [run for cell in self.cells for run in cell.runs]

    @property
    def complete(self) -> bool:
        """Whether no run is missing."""
        return len(self.runs) == self.store.contract.runs

    @property
    def references(self) -> list[str]:
        """The references that take part."""
        entered = [terms.name for terms in self.store.contract.optimizers]
        return [name for name in REFERENCES[self.store.contract.ruleset] if name in entered]

    def cell(self, task: str, optimizer: str) -> Cell:
        """Return one cell."""
        return next(cell for cell in self.cells if cell.task.name == task and cell.terms.name == optimizer)

    def of_task(self, task: str) -> list[Cell]:
        """Return a task's cells, best median first, unfinished ones last."""
        found = [cell for cell in self.cells if cell.task.name == task]
        return sorted(found, key=lambda cell: -cell.sign * cell.median.middle if cell.median else np.inf)

    def comparison(self, cell: Cell, reference: str) -> Comparison | None:
        """Compare a cell with a reference on its task; None for the reference itself and while seeds are missing.

        Intervals hold jointly for all of a task's comparisons with one reference (Bonferroni).
        """
        other = self.cell(cell.task.name, reference)
        if other is cell or not len(cell.finals) == len(other.finals) == len(self.store.contract.final_seeds):
            return None
        comparisons = len(self.store.contract.optimizers) - 1
        return compare(cell.oriented, other.oriented, cell.task.margin, comparisons)

    def improvement(self, optimizer: str, reference: str) -> Interval | None:
        """Return P(improvement) over a reference averaged over the tasks; None until every task is finished."""
        pairs: list[tuple[Values, Values]] = []
        for task in self.store.contract.tasks:
            cell, other = self.cell(task.name, optimizer), self.cell(task.name, reference)
            if other is cell or self.comparison(cell, reference) is None:
                return None
            pairs.append((cell.oriented, other.oriented))
        return improvement_over_tasks(pairs)

    def detectable(self, task: str) -> float | None:
        """Return the median minimum detectable effect of a task's comparisons, in the metric's unit."""
        found = [
            comparison.detectable
            for cell in self.of_task(task)
            for reference in self.references
            if (comparison := self.comparison(cell, reference)) and comparison.detectable is not None
        ]
        return float(np.median(found)) if found else None
