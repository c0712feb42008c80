"""Which runs a study has left to do: a pure function of its contract and its results.

Nothing else decides. So a study continues after a kill, runs on any number of workers, and comes out the same in any
order.
"""

from collections.abc import Iterator, Mapping

from thalweg.lab.contract import Contract, EntryTerms, TaskTerms
from thalweg.lab.records import Phase, Result, RunConfig


def tuning_runs(contract: Contract, task: TaskTerms, terms: EntryTerms) -> list[RunConfig]:
    """Return a cell's tuning runs: every trial on every tuning seed."""
    return [
        _config(contract, task, terms, "tuning", trial, seed)
        for trial in range(contract.trials)
        for seed in contract.tuning_seeds
    ]


def final_runs(contract: Contract, task: TaskTerms, terms: EntryTerms, trial: int) -> list[RunConfig]:
    """Return a cell's final runs: the winning trial on every final seed."""
    return [_config(contract, task, terms, "final", trial, seed) for seed in contract.final_seeds]


def _config(contract: Contract, task: TaskTerms, terms: EntryTerms, phase: Phase, trial: int, seed: int) -> RunConfig:
    point = terms.points[trial]
    return RunConfig(
        study=contract.hash,
        task=task.name,
        optimizer=terms.name,
        rule=terms.entry.rule,
        rest=terms.entry.rest,
        steering=terms.entry.steering,
        phase=phase,
        trial=trial,
        seed=seed,
        point=point,
        keywords=terms.entry.keywords(point),
        schedule=terms.entry.schedule,
        budget=task.budget,
        evaluations=contract.evaluations,
        diverged_above=contract.diverged_above,
        timeout_seconds=contract.timeout_seconds,
    )


def winner(contract: Contract, task: TaskTerms, terms: EntryTerms, results: Mapping[str, Result]) -> int | None:
    """Return the trial that tuning selects, None while a tuning run is missing.

    The best mean validation metric over the tuning seeds; a trial with a failed run comes after all others; equal
    metrics are separated by the validation loss, then by the order of the trials.
    """
    ranks: dict[int, tuple[int, float, float, int]] = {}
    for trial in range(contract.trials):
        runs = [
            results.get(_config(contract, task, terms, "tuning", trial, seed).path) for seed in contract.tuning_seeds
        ]
        failures, value, loss = 0, 0.0, 0.0
        for run in runs:
            if run is None:
                return None
            if run.value is None or run.loss is None:
                failures += 1
            else:
                value += run.value if task.better == "min" else -run.value
                loss += run.loss
        ranks[trial] = (failures, value, loss, trial)
    return min(ranks, key=lambda trial: ranks[trial])


def cells(contract: Contract) -> Iterator[tuple[TaskTerms, EntryTerms]]:
    """Yield every pair of a task and an optimizer."""
    for task in contract.tasks:
        for terms in contract.optimizers:
            yield task, terms


def ready_in(contract: Contract, task: TaskTerms, terms: EntryTerms, results: Mapping[str, Result]) -> list[RunConfig]:
    """Return a cell's runs that can start now and have no result: final runs only once tuning has a winner."""
    trial = winner(contract, task, terms, results)
    runs = tuning_runs(contract, task, terms) if trial is None else final_runs(contract, task, terms, trial)
    return [config for config in runs if config.path not in results]


def ready(contract: Contract, results: Mapping[str, Result]) -> list[RunConfig]:
    """Return a study's runs that can start now and have no result."""
    return [config for task, terms in cells(contract) for config in ready_in(contract, task, terms, results)]
