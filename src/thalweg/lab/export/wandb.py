"""Weights & Biases, offline: nothing is sent unless the user's ``WANDB_MODE`` says so."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thalweg.lab.analysis import Run
from thalweg.lab.tables import known, numbers, outcome, settings
from thalweg.lab.untyped import untyped

PROJECT = "thalweg"
"""Where ``WANDB_PROJECT`` is not set."""


def write(runs: Sequence[Run], folder: Path) -> None:
    """Write a W&B run for each run, of one group a study."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # on unless told otherwise, and read on import
    wandb = untyped("wandb")
    for run in runs:
        logged: Any = wandb.init(
            mode=os.environ.get("WANDB_MODE", "offline"),
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=run.config.study,
            name=run.config.path,
            dir=str(folder),
            config=known(settings(run)),
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, x_disable_meta=True, x_disable_stats=True
            ),
        )
        for point in run.curve:
            logged.log(numbers(vars(point)), step=point.step)
        logged.summary.update(known(outcome(run)))
        logged.finish()
