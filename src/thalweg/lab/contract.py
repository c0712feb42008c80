"""The contract of a study: everything a result depends on, fixed and hashed before the first run."""

import hashlib
import json
from functools import cached_property
from typing import Literal

from thalweg.lab.errors import UserError
from thalweg.lab.plain import brief, differences
from thalweg.lab.space import Entry, Frozen, points
from thalweg.lab.tasks import Task, load_task

FIRST_FINAL_SEED = 1000
"""Final runs use the seeds from here on, tuning runs those from 0 on: no seed serves both."""
MOST_TUNING_SEEDS = 1000


class TaskTerms(Frozen):
    """What a contract says about a task."""

    name: str
    summary: str
    data_hash: str
    parameters: int
    batch_size: int
    budget: int
    """Gradient-equivalents of one run."""
    metric: str
    unit: str
    better: Literal["min", "max"]
    margin: float


class EntryTerms(Frozen):
    """What a contract says about an optimizer: its entry and the points its trials will try."""

    entry: Entry
    points: list[dict[str, float]]

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.entry.name


class Contract(Frozen):
    """A study before it runs. Equal contracts have equal hashes and give equal results."""

    format: Literal[1] = 1
    suite: str
    ruleset: Literal["tuned"] = "tuned"
    tasks: list[TaskTerms]
    optimizers: list[EntryTerms]
    trials: int
    tuning_seeds: list[int]
    final_seeds: list[int]
    evaluations: int = 15
    """Points of a run's curve after the first, at equal distances in gradient-equivalents."""
    diverged_above: float = 100.0
    """A training loss above this multiple of the untrained network's validation loss ends a run as diverged."""
    timeout_seconds: float = 3600.0
    """CPU seconds after which a run ends as timed out."""

    @cached_property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def runs(self) -> int:
        """Number of runs of the whole study."""
        return len(self.tasks) * len(self.optimizers) * self.runs_per_cell

    @property
    def runs_per_cell(self) -> int:
        """Runs of one optimizer on one task: trials on the tuning seeds, then the winner on the final seeds."""
        return self.trials * len(self.tuning_seeds) + len(self.final_seeds)

    def cell(self, task: str, optimizer: str) -> tuple[TaskTerms, EntryTerms]:
        """Return the terms of a task and of an optimizer of the study."""
        return (
            next(terms for terms in self.tasks if terms.name == task),
            next(terms for terms in self.optimizers if terms.name == optimizer),
        )


def draw_up(suite: str, tasks: list[str], entries: list[Entry], trials: int, seeds: int) -> Contract:
    """Draw up the contract of a study; loads the tasks' data to hash it.

    Raises:
        UserError: an unknown task.
    """
    return Contract(
        suite=suite,
        tasks=[task_terms(load_task(name)) for name in tasks],
        optimizers=[EntryTerms(entry=entry, points=points(entry, trials)) for entry in entries],
        trials=trials,
        tuning_seeds=[0],
        final_seeds=[FIRST_FINAL_SEED + number for number in range(seeds)],
    )


def task_terms(task: Task) -> TaskTerms:
    """What a contract says about a task."""
    return TaskTerms(
        name=task.name,
        summary=task.summary,
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
    found = list(differences(stored.model_dump(mode="json"), asked.model_dump(mode="json")))
    if found:
        field, there, here = min(found, key=lambda difference: len(difference[0]))
        raise UserError(
            f"--store {folder} holds another study: its contract has {field} = {brief(there)}, this command asks for"
            f" {brief(here)}. Repeat the stored study's options, or give another folder. Nothing was changed."
        )
