"""A study's stored runs, put together: cells, comparisons with the references, validity lights.

The terminal's table, the JSON output and the report all show this and compute nothing of their own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from thalweg.lab.contract import EntryTerms, Ruleset, TaskTerms
from thalweg.lab.environment import Environment
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.statistics.bestof import expected_best
from thalweg.lab.statistics.paired import Comparison, Interval, Values, compare, improvement_over_tasks, median_interval
from thalweg.lab.statistics.scores import interquartile_mean
from thalweg.lab.statistics.sensitivity import UsableRange, usable_range
from thalweg.lab.statistics.speedup import SpeedUp, speed_up
from thalweg.lab.statistics.survival import Times, ends, log_rank, middle, time_to
from thalweg.lab.store import Store
from thalweg.lab.study import aside_runs, cells, last_runs, tuning_runs, winner

Measure = Literal["charged", "step", "seconds"]
"""What time is counted in: gradient-equivalents, which decide, or steps, or CPU seconds."""
MEASURES: tuple[Measure, ...] = get_args(Measure)

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

    def used(self, measure: Measure) -> float:
        """What the whole run took."""
        result = self.result
        return {"charged": result.charged, "step": result.steps, "seconds": result.seconds}[measure]


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
        return self._orient(run.result.value for run in self.finals)

    def _orient(self, values: Iterable[float | None]) -> Values:
        return np.array([-np.inf if value is None else self.sign * value for value in values])

    @cached_property
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
            (run.config.point["lr"], None if run.result.value is None else self.sign * run.result.value)
            for run in self.tuning
        ]
        return usable_range(trials, USABLE_MARGINS * self.task.margin)

    @property
    def interquartile_mean(self) -> float:
        """Mean of the middle half of the final values, in the metric's own unit; infinite when failures reach into it."""
        return self.sign * interquartile_mean(self.oriented)

    @property
    def also(self) -> dict[str, float]:
        """Medians of the task's other metrics over the final seeds; failures are as bad as the main metric can be."""
        names = dict.fromkeys(name for run in self.finals for name in run.result.also)
        return {
            name: self.sign * middle(self._orient(run.result.also.get(name) for run in self.finals)) for name in names
        }

    @property
    def untrained(self) -> float | None:
        """Median oriented metric of the networks before the first step."""
        found = [run.result.untrained for run in self.finals if run.result.untrained is not None]
        return self.sign * float(np.median(found)) if found else None

    @cached_property
    def times(self) -> dict[Measure, Times]:
        """When each final run reached each target, in every measure."""
        targets = self.sign * np.array(self.task.targets)
        ok = [run.result.ok for run in self.finals]
        curves = [
            self._orient(point.validation for point in run.curve) if run.result.ok else None for run in self.finals
        ]
        found: dict[Measure, Times] = {}
        for measure in MEASURES:
            reached = np.full((len(self.finals), len(targets)), np.inf)
            for row, run, metric in zip(reached, self.finals, curves, strict=True):
                if metric is not None:
                    clock = np.array([getattr(point, measure) for point in run.curve], float)
                    row[:] = [time_to(clock, metric, target) for target in targets]
            own = [run.used(measure) for run in self.finals]
            whole = self.task.budget if measure == "charged" else max(own, default=0.0)
            found[measure] = Times(reached, ends(own, ok, whole))
        return found

    @cached_property
    def expected_best(self) -> list[float]:
        """Expected best metric of k = 1, 2, … of the trials; a failed trial leaves the network untrained.

        A trial is worth its mean over the tuning seeds, as the selection has it. Empty while trials are missing.
        """
        kept = [run.result.untrained if run.result.value is None else run.result.value for run in self.tuning]
        worth: dict[int, list[float]] = {}
        for run, value in zip(self.tuning, kept, strict=True):
            if value is not None:
                worth.setdefault(run.config.trial, []).append(value)
        if len(worth) < len(self.terms.points) or not worth:
            return []
        means = np.array([self.sign * float(np.mean(values)) for values in worth.values()])
        return (self.sign * expected_best(means)).tolist()

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

    @cached_property
    def environments(self) -> list[Environment]:
        """The different environments the runs were done in, the most frequent first."""
        return self.store.environments()

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

    def leader(self, task: str) -> Cell | None:
        """Return a task's best median among those that failed least often: who fails more often is never called better."""
        finished = [cell for cell in self.of_task(task) if cell.median]
        fewest = min((cell.failures for cell in finished), default=0)
        return next((cell for cell in finished if cell.failures == fewest), None)

    def _pair(self, cell: Cell, reference: str) -> Cell | None:
        """Return the reference's cell on the same task; None for the reference itself and while seeds are missing."""
        other = self.cell(cell.task.name, reference)
        paired = len(cell.finals) == len(other.finals) == len(self.store.contract.final_seeds)
        return other if paired and other is not cell else None

    @cached_property
    def _compared(self) -> dict[tuple[str, ...], Comparison]:
        return {}

    @cached_property
    def _sped_up(self) -> dict[tuple[str, ...], SpeedUp | None]:
        return {}

    @property
    def _comparisons(self) -> int:
        """How many are read together: intervals hold jointly for a task's comparisons with one reference (Bonferroni)."""
        return max(1, len(self.store.contract.optimizers) - 1)

    def comparison(self, cell: Cell, reference: str) -> Comparison | None:
        """Compare a cell with a reference on its task; None for the reference itself and while seeds are missing."""
        if (other := self._pair(cell, reference)) is None:
            return None
        key = (cell.task.name, cell.terms.name, reference)
        if key not in self._compared:
            self._compared[key] = compare(cell.oriented, other.oriented, cell.task.margin, self._comparisons)
        return self._compared[key]

    def speed_up(self, cell: Cell, reference: str, measure: Measure = "charged") -> SpeedUp | None:
        """Return how many times faster a cell reaches the targets than a reference; None without targets, for the reference
        itself, while seeds are missing, and where nobody reaches any target."""
        if not cell.task.targets or (other := self._pair(cell, reference)) is None:
            return None
        key = (cell.task.name, cell.terms.name, reference, measure)
        if key not in self._sped_up:
            times = cell.times[measure].reached, other.times[measure].reached
            self._sped_up[key] = speed_up(*times, self._comparisons, cell.failures - other.failures)
        return self._sped_up[key]

    def log_rank(self, cell: Cell, reference: str, level: int) -> float | None:
        """Return the p-value of the log-rank test of reaching a target, in gradient-equivalents; None as for `speed_up`."""
        if not cell.task.targets or (other := self._pair(cell, reference)) is None:
            return None
        return log_rank(cell.times["charged"], other.times["charged"], level)

    @cached_property
    def _improved(self) -> dict[tuple[str, str], Interval | None]:
        return {}

    def improvement(self, optimizer: str, reference: str) -> Interval | None:
        """Return P(improvement) over a reference averaged over the tasks; None until every task is finished."""
        if (optimizer, reference) not in self._improved:
            self._improved[optimizer, reference] = self._improvement(optimizer, reference)
        return self._improved[optimizer, reference]

    def _improvement(self, optimizer: str, reference: str) -> Interval | None:
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
