"""How long a study will take: a short probe of each task, multiplied."""

import time

import torch

from thalweg.lab.contract import Contract
from thalweg.lab.run import Gradient, create, evaluate
from thalweg.lab.study import tuning_runs
from thalweg.lab.tasks import load_task

WARMUP_STEPS, TIMED_STEPS = 3, 10
WORKER_START_SECONDS = 4.0


def estimate_seconds(contract: Contract, jobs: int) -> float:
    """Time a few steps of every task with one optimizer and return the wall seconds the whole study should take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work = sum(_run_seconds(contract, number) for number in range(len(contract.tasks)))
    finally:
        torch.set_num_threads(threads)
    return WORKER_START_SECONDS + work * len(contract.optimizers) * contract.runs_per_cell / jobs


def _run_seconds(contract: Contract, number: int) -> float:
    """Predict the seconds of one run of a task; the last optimizer stands for all."""
    terms = contract.tasks[number]
    config = tuning_runs(contract, terms, contract.optimizers[-1])[0]
    task = load_task(terms.name)
    model = task.model(config.seed)
    optimizer = create(config, model)
    gradient = Gradient(task, model, optimizer)
    batches = task.batches(config.seed)
    started = 0.0
    for step in range(WARMUP_STEPS + TIMED_STEPS):
        if step == WARMUP_STEPS:
            started = time.perf_counter()
            gradient.charged = 0
        gradient.batch = next(batches)
        optimizer.step(gradient)
    a_gradient = (time.perf_counter() - started) / gradient.charged
    started = time.perf_counter()
    evaluate(task, model, task.validation)
    return a_gradient * config.budget + (time.perf_counter() - started) * (config.evaluations + 2)
