"""The contract of a study: everything a result depends on, fixed and hashed before the first run."""

import hashlib
import json
from functools import cached_property
from typing import Literal, get_args

from thalweg.lab.errors import UserError
from thalweg.lab.plain import brief, plainest_difference
from thalweg.lab.space import Entry, Frozen, default_point, points
from thalweg.lab.tasks import Task, load_task
from thalweg.lab.tasks.files import Preset

FIRST_FINAL_SEED = 1000
"""Final runs use the seeds from here on, tuning runs those from 0 on: no seed serves both."""
MOST_TUNING_SEEDS = 1000
MULTIPLES = tuple(10 ** (half / 2) for half in range(-4, 5))
"""Of the best learning rate, in a sweep: four decades in half decades."""

TIMEOUTS: dict[Preset | None, float] = {None: 3600.0, "tiny": 3600.0, "paper": 7 * 24 * 3600.0}
"""Seconds that no run of a preset should take: an hour on a core, a week on an accelerator."""

Ruleset = Literal["tuned", "hands-off", "robustness"]
"""What every optimizer is granted on every task.

- ``tuned``: trials on the tuning seeds; the winner runs on the final seeds.
- ``hands-off``: no trial; one point for all tasks runs on the final seeds.
- ``robustness``: trials for the plain optimizers alone; then, on the final seeds, multiples of the best learning rate for
  each plain optimizer and for all that steer it.
"""
RULESETS: tuple[Ruleset, ...] = get_args(Ruleset)


Aside = Literal["sharpness", "timing"]
"""What is measured beside the runs that are compared, in runs that nothing is ranked by."""


class TaskTerms(Frozen):
    """What a contract says about a task."""

    name: str
    summary: str
    preset: Preset | None = None
    """Of a task on files."""
    data_hash: str
    parameters: int
    batch_size: int
    budget: int
    """Gradient-equivalents of one run."""
    metric: str
    unit: str
    better: Literal["min", "max"]
    margin: float
    targets: tuple[float, ...] = ()
    """Values of the metric that runs are timed to, the easiest first, frozen before the study."""


class EntryTerms(Frozen):
    """What a contract says about an optimizer: its entry and the points its trials will try."""

    entry: Entry
    points: list[dict[str, float]]
    """None for a steered optimizer in a sweep, which takes the best point of what it steers."""

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.entry.name


class Contract(Frozen):
    """A study before it runs. Equal contracts have equal hashes and give equal results."""

    format: Literal[1] = 1
    suite: str
    ruleset: Ruleset = "tuned"
    tasks: list[TaskTerms]
    optimizers: list[EntryTerms]
    trials: int
    tuning_seeds: list[int]
    final_seeds: list[int]
    multiples: tuple[float, ...] = ()
    """Of the best learning rate, that a sweep tries; a study without them runs the winner itself."""
    aside: tuple[Aside, ...] = ()
    """What else is measured of each optimizer on each task, at its best point, in a run of its own."""
    evaluations: int = 15
    """Points of a run's curve after the first, at equal distances in gradient-equivalents."""
    diverged_above: float = 100.0
    """A training loss above this multiple of the untrained network's validation loss ends a run as diverged."""
    timeout_seconds: float = 3600.0
    """Seconds of training after which a run ends as timed out."""

    @cached_property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def preset(self) -> Preset | None:
        """Size of the tasks on files; None if there are none."""
        return next((task.preset for task in self.tasks if task.preset), None)

    @property
    def runs(self) -> int:
        """Number of runs of the whole study."""
        return len(self.tasks) * self.runs_per_task

    @property
    def runs_per_task(self) -> int:
        """Number of runs of all optimizers on one task."""
        return sum(self.trial_runs(terms) + self.last_runs + len(self.aside) for terms in self.optimizers)

    def trial_runs(self, terms: EntryTerms) -> int:
        """Runs that tune an optimizer on a task: its points on the tuning seeds."""
        return len(terms.points) * len(self.tuning_seeds)

    @property
    def last_runs(self) -> int:
        """Runs of an optimizer on a task that are reported: on the final seeds, at each multiple if it is a sweep."""
        return len(self.final_seeds) * max(1, len(self.multiples))

    @property
    def counted(self) -> Literal["gradient-equivalents", "steps"]:
        """What runs have equally many of: in a sweep steps, so that the learning rate is all that differs."""
        return "steps" if self.multiples else "gradient-equivalents"

    @property
    def last_phase(self) -> Literal["final", "sweep"]:
        """What the runs that are reported are called."""
        return "sweep" if self.multiples else "final"

    def tuned_as(self, terms: EntryTerms) -> EntryTerms:
        """Return the optimizer whose trials choose an optimizer's point: itself, or in a sweep what it steers."""
        steering = terms.entry.steering
        return terms if steering is None or not self.multiples else self.optimizer(steering.over)

    def optimizer(self, name: str) -> EntryTerms:
        """Return the terms of an optimizer of the study."""
        return next(terms for terms in self.optimizers if terms.name == name)

    def task(self, name: str) -> TaskTerms:
        """Return the terms of a task of the study."""
        return next(terms for terms in self.tasks if terms.name == name)


def draw_up(
    suite: str,
    tasks: list[str],
    entries: list[Entry],
    trials: int,
    seeds: int,
    ruleset: Ruleset = "tuned",
    preset: Preset | None = None,
    aside: tuple[Aside, ...] = (),
) -> Contract:
    """Draw up the contract of a study; loads the tasks' data to hash it.

    Raises:
        UserError: an unknown task, or one whose files are missing or damaged; a sweep of a steered optimizer without the
            plain one.
    """
    if ruleset == "robustness":
        _require_plain(entries)
    return Contract(
        suite=suite,
        ruleset=ruleset,
        tasks=[task_terms(load_task(name, preset)) for name in tasks],
        optimizers=[EntryTerms(entry=entry, points=_points(entry, trials, ruleset)) for entry in entries],
        trials=0 if ruleset == "hands-off" else trials,
        tuning_seeds=[] if ruleset == "hands-off" else [0],
        final_seeds=[FIRST_FINAL_SEED + number for number in range(seeds)],
        multiples=MULTIPLES if ruleset == "robustness" else (),
        aside=aside,
        timeout_seconds=TIMEOUTS[preset],
    )


def _points(entry: Entry, trials: int, ruleset: Ruleset) -> list[dict[str, float]]:
    if ruleset == "hands-off":
        return [default_point(entry)]
    return [] if ruleset == "robustness" and entry.steering else points(entry, trials)


def _require_plain(entries: list[Entry]) -> None:
    names = [entry.name for entry in entries]
    for entry in entries:
        if entry.steering and entry.steering.over not in names:
            raise UserError(
                f"--optimizers has {entry.name} without {entry.steering.over}, which it steers and is measured against;"
                f" add it: -o {','.join([*names, entry.steering.over])}"
            )


def task_terms(task: Task) -> TaskTerms:
    """What a contract says about a task."""
    return TaskTerms(
        name=task.name,
        summary=task.summary,
        preset=task.preset,
        data_hash=task.data_hash,
        parameters=sum(parameter.numel() for parameter in task.model(0).parameters()),
        batch_size=task.batch_size,
        budget=task.budget,
        metric=task.metric.name,
        unit=task.metric.unit,
        better=task.metric.better,
        margin=task.metric.margin,
    )


def require_same(stored: Contract, asked: Contract, folder: str) -> None:
    """Check that a folder holds the study that is asked for.

    Raises:
        UserError: it holds another one; the message names the first field that differs, the plainest first.
    """
    found = plainest_difference(stored.model_dump(mode="json"), asked.model_dump(mode="json"))
    if found:
        field, there, here = found
        raise UserError(
            f"--store {folder} holds another study: its contract has {field} = {brief(there)}, this command asks for"
            f" {brief(here)}. Repeat the stored study's options, or give another folder. Nothing was changed."
        )
