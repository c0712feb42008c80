"""Workers as jobs of a Slurm cluster, through submitit.

The storage's URL reaches the jobs in their environment (``THALWEG_STORE``), as Slurm passes it on unless told otherwise, and
not in what submitit writes to disk: it may hold a password.
"""

import os
from pathlib import Path
from typing import Any

from thalweg.lab.errors import UserError
from thalweg.lab.options import console
from thalweg.lab.queue.address import VARIABLE
from thalweg.lab.untyped import needed


def submit(study: str, store: str, count: int, jobs: int, options: dict[str, str], cluster: str = "slurm") -> list[Any]:
    """Submit jobs that work on a study, and return submitit's jobs; their logs go to ``slurm-STUDY``.

    Args:
        study: hash of its contract.
        store: URL of the storage.
        count: number of jobs.
        jobs: worker processes of each, and the cores it asks for.
        options: options of sbatch by their long names: partition, time, account, …
        cluster: of submitit: slurm; or local, for processes of this machine.

    Raises:
        UserError: submitit or sbatch is not installed.
    """
    submitit = needed("submitit", "--slurm", "slurm")
    os.environ[VARIABLE] = store
    try:
        executor = submitit.AutoExecutor(folder=Path(f"slurm-{study}"), cluster=cluster)
    except RuntimeError as error:
        raise UserError(f"--slurm: {error}. Submit from a machine that has sbatch.") from None
    executor.update_parameters(name=f"thalweg-{study}", cpus_per_task=jobs, slurm_additional_parameters=options)
    with executor.batch():
        return [executor.submit(_work, study, jobs) for _ in range(count)]


def _work(study: str, jobs: int) -> None:
    """What a job does."""
    from thalweg.lab.queue.command import work

    if VARIABLE not in os.environ:
        raise UserError(
            f"{VARIABLE} did not reach the job; have Slurm pass the environment on: --slurm-option export=ALL"
        )
    work(study, os.environ[VARIABLE], jobs, console(), quiet=False)


def parse_options(options: list[str]) -> dict[str, str]:
    """Read ``key=value`` words.

    Raises:
        UserError: one is something else.
    """
    for option in options:
        if not option.partition("=")[2]:
            raise UserError(f"--slurm-option is {option!r}; it must be KEY=VALUE, as in partition=long.")
    return {key.lstrip("-"): value for key, _, value in (option.partition("=") for option in options)}
