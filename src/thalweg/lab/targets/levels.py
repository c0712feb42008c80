"""What the references reach, and when: the levels of a task."""

from itertools import accumulate

import numpy as np

from thalweg.lab.analysis import Analysis, Cell, Run
from thalweg.lab.contract import Contract, TaskTerms
from thalweg.lab.errors import UserError
from thalweg.lab.space import Entry, entry
from thalweg.lab.targets.frozen import Targets

REFERENCES = ("adamw", "nadam", "nesterov", "momentum")
"""AdamW, NAdam, Nesterov's momentum and heavy ball, as AlgoPerf's targets were set.  arXiv:2306.07179, sect. 4.2"""
TRIALS, SEEDS = 16, 5
"""Twice the trials of a smoke study, and the reruns that the median is of."""
PARTS = (0.25, 0.5, 0.75, 1.0)
"""Of the budget: a level is what the best reference has reached by then."""


def references() -> list[Entry]:
    """Return the entries that set targets."""
    return [entry(name) for name in REFERENCES]


def levels(analysis: Analysis, task: TaskTerms) -> Targets:
    """Return a task's targets: the median over seeds of the best value so far, of the reference that ends best.

    A level that a later part of the budget does not improve on is given once.

    Raises:
        UserError: the references failed.
    """
    best = analysis.of_task(task.name)[0]
    contract = analysis.store.contract
    return Targets(
        task=task.name,
        data_hash=task.data_hash,
        metric=task.metric,
        parameters=task.parameters,
        batch_size=task.batch_size,
        budget=task.budget,
        levels=_levels(best, contract),
        reference=best.terms.name,
        trials=contract.trials,
        seeds=len(contract.final_seeds),
        contract=contract.hash,
        environment=analysis.store.environments()[0].said,
    )


def _levels(cell: Cell, contract: Contract) -> tuple[float, ...]:
    curves = np.array([_best_so_far(cell, run, contract.evaluations + 1) for run in cell.finals])
    reached = np.median(curves, axis=0)
    found = [cell.sign * float(reached[round(part * contract.evaluations)]) for part in PARTS]
    if not np.isfinite(found[-1]):
        raise UserError(f"task {cell.task.name} has no targets: half of the runs of every reference failed.")
    return tuple(dict.fromkeys(level for level in found if np.isfinite(level)))


def _best_so_far(cell: Cell, run: Run, length: int) -> list[float]:
    """Return the best value so far at each point of the curve; nothing is reached from where a run failed."""
    values = [-np.inf if point.validation is None else cell.sign * point.validation for point in run.curve]
    return [*accumulate(values, max), *([-np.inf] * (length - len(values)))]
