"""Which runs a study has left to do: a pure function of its contract and its results.

Nothing else decides. So a study continues after a kill, runs on any number of workers, and comes out the same in any
order.
"""

from collections.abc import Iterator, Mapping

from thalweg.lab.contract import Aside, Contract, EntryTerms, TaskTerms
from thalweg.lab.records import Phase, Result, RunConfig

UNTIMED_STEPS, TIMED_STEPS = 5, 30
"""Of a timing run: what caches and buffers take to settle, and what the median is of."""


def tuning_runs(contract: Contract, task: TaskTerms, terms: EntryTerms) -> list[RunConfig]:
    """Return a cell's tuning runs: every trial on every tuning seed."""
    return [
        _config(contract, task, terms, "tuning", trial, seed, point)
        for trial, point in enumerate(terms.points)
        for seed in contract.tuning_seeds
    ]


def last_runs(contract: Contract, task: TaskTerms, terms: EntryTerms, trial: int) -> list[RunConfig]:
    """Return the runs that a cell is reported by, once a trial is selected: on every final seed, the point of the trial, or
    in a sweep the same with each multiple of its learning rate."""
    point = contract.tuned_as(terms).points[trial]
    tried = [(trial, point)]
    if contract.multiples:
        tried = list(enumerate({**point, "lr": point["lr"] * multiple} for multiple in contract.multiples))
    return [
        _config(contract, task, terms, contract.last_phase, number, seed, point)
        for number, point in tried
        for seed in contract.final_seeds
    ]


def aside_runs(contract: Contract, task: TaskTerms, terms: EntryTerms, trial: int, phase: Aside) -> list[RunConfig]:
    """Return the run that measures something else of a cell, at the point of the selected trial, on the first final seed."""
    if phase not in contract.aside:
        return []
    point = contract.tuned_as(terms).points[trial]
    config = _config(contract, task, terms, phase, trial, contract.final_seeds[0], point)
    return [
        config.model_copy(
            update={"budget": UNTIMED_STEPS + TIMED_STEPS, "counted": "steps"} if phase == "timing" else {}
        )
    ]


def _config(
    contract: Contract,
    task: TaskTerms,
    terms: EntryTerms,
    phase: Phase,
    trial: int,
    seed: int,
    point: dict[str, float],
) -> RunConfig:
    return RunConfig(
        study=contract.hash,
        task=task.name,
        preset=task.preset,
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
        counted=contract.counted,
        evaluations=contract.evaluations,
        diverged_above=contract.diverged_above,
        timeout_seconds=contract.timeout_seconds,
    )


def winner(contract: Contract, task: TaskTerms, terms: EntryTerms, results: Mapping[str, Result]) -> int | None:
    """Return the trial that tuning selects, None while a tuning run is missing; hands off, there is one to select.

    The best mean validation metric over the tuning seeds; a trial with a failed run comes after all others; equal
    metrics are separated by the validation loss, then by the order of the trials.
    """
    tuned = contract.tuned_as(terms)
    ranks = {trial: (0, 0.0, 0.0, trial) for trial in range(len(tuned.points))}
    for config in tuning_runs(contract, task, tuned):
        run = results.get(config.path)
        if run is None:
            return None
        failures, value, loss, trial = ranks[config.trial]
        if run.value is None or run.loss is None:
            ranks[trial] = (failures + 1, value, loss, trial)
        else:
            value += run.value if task.better == "min" else -run.value
            ranks[trial] = (failures, value, loss + run.loss, trial)
    return min(ranks, key=lambda trial: ranks[trial])


def cells(contract: Contract) -> Iterator[tuple[TaskTerms, EntryTerms]]:
    """Yield every pair of a task and an optimizer."""
    for task in contract.tasks:
        for terms in contract.optimizers:
            yield task, terms


def ready_in(contract: Contract, task: TaskTerms, terms: EntryTerms, results: Mapping[str, Result]) -> list[RunConfig]:
    """Return a cell's runs that can start now and have no result: the last ones only once tuning has a winner."""
    trial = winner(contract, task, terms, results)
    if trial is None:
        runs = tuning_runs(contract, task, terms)
    else:
        runs = last_runs(contract, task, terms, trial) + aside_runs(contract, task, terms, trial, "sharpness")
    return [config for config in runs if config.path not in results]


def ready_on(contract: Contract, task: TaskTerms, results: Mapping[str, Result]) -> list[RunConfig]:
    """Return a task's runs that can start now and have no result."""
    return [config for terms in contract.optimizers for config in ready_in(contract, task, terms, results)]


def ready_after(contract: Contract, ended: RunConfig, results: Mapping[str, Result]) -> list[RunConfig]:
    """Return the runs that can start now and could not before a run ended: it may have been the last that tuned somebody,
    or the last of all but timing."""
    if ended.phase != "tuning":
        return timing(contract, results)
    task, tuned = contract.task(ended.task), contract.optimizer(ended.optimizer)
    waiting = [terms for terms in contract.optimizers if contract.tuned_as(terms) is tuned]
    return [config for terms in waiting for config in ready_in(contract, task, terms, results)]


def counted(contract: Contract, results: Mapping[str, Result]) -> dict[str, Result]:
    """Return the results that the contract is about: an extended study may hold final runs of a point that lost since."""
    found: list[RunConfig] = []
    for task, terms in cells(contract):
        found += tuning_runs(contract, task, terms)
        if (trial := winner(contract, task, terms, results)) is not None:
            found += last_runs(contract, task, terms, trial)
            found += [run for phase in contract.aside for run in aside_runs(contract, task, terms, trial, phase)]
    return {config.path: results[config.path] for config in found if config.path in results}


def ready(contract: Contract, results: Mapping[str, Result]) -> list[RunConfig]:
    """Return a study's runs that can start now and have no result."""
    return [config for task in contract.tasks for config in ready_on(contract, task, results)] or timing(
        contract, results
    )


def timing(contract: Contract, results: Mapping[str, Result]) -> list[RunConfig]:
    """Return the timing runs without a result once no other run is left: they want the machine to themselves."""
    if "timing" not in contract.aside or len(results) < contract.runs - len(contract.tasks) * len(contract.optimizers):
        return []
    found: list[RunConfig] = []
    for task, terms in cells(contract):
        trial = winner(contract, task, terms, results)
        if trial is None or ready_in(contract, task, terms, results):
            return []
        found += aside_runs(contract, task, terms, trial, "timing")
    return [config for config in found if config.path not in results]
