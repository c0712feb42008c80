"""How long a study will take: a short probe of each task, multiplied."""

import time

import torch

from thalweg.lab.contract import Contract, TaskTerms
from thalweg.lab.run import Trainer, evaluate
from thalweg.lab.study import ready_on
from thalweg.lab.tasks import load_task

WARMUP_STEPS, TIMED_STEPS = 3, 10
WORKER_START_SECONDS = 4.0


def estimate_seconds(contract: Contract, jobs: int) -> float:
    """Time a few steps of every task and return the wall seconds the whole study should take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work = sum(_run_seconds_if_it_runs(contract, terms) for terms in contract.tasks)
    finally:
        torch.set_num_threads(threads)
    return WORKER_START_SECONDS + work * contract.runs_per_task / jobs


def _run_seconds_if_it_runs(contract: Contract, terms: TaskTerms) -> float:
    """Predict the seconds of one run; 0 if it breaks, which is for the run itself to say."""
    try:
        return _run_seconds(contract, terms)
    except Exception:  # what a task of the user's raises is its own
        return 0.0


def _run_seconds(contract: Contract, terms: TaskTerms) -> float:
    """Predict the seconds of one run of a task; the last that could start at once stands for all."""
    config = ready_on(contract, terms, {})[-1]
    trainer = Trainer(config, load_task(terms.name, terms.preset))
    for _ in range(WARMUP_STEPS):
        trainer.step()
    charged, started = trainer.charged, time.perf_counter()
    for _ in range(TIMED_STEPS):
        trainer.step()
    a_gradient = (time.perf_counter() - started) / (trainer.charged - charged)
    started = time.perf_counter()
    evaluate(trainer.task, trainer.model, trainer.task.validation)
    return a_gradient * config.budget + (time.perf_counter() - started) * (config.evaluations + 2)
