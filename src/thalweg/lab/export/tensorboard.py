"""TensorBoard event files: a folder a run, scalars by step, hyperparameters with what they came to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thalweg.lab.analysis import Run
from thalweg.lab.tables import known, numbers, outcome, settings
from thalweg.lab.untyped import untyped


def write(runs: Sequence[Run], folder: Path) -> None:
    """Write the event files of all runs."""
    writer_of, hparams_of = untyped("tensorboardX").SummaryWriter, untyped("tensorboardX.summary").hparams
    for run in runs:
        writer: Any = writer_of(logdir=str(folder / run.config.path), write_to_disk=True)
        for point in run.curve:
            for name, value in numbers(vars(point)).items():
                if name != "step":
                    writer.add_scalar(name, value, point.step)
        reached = {f"result/{name}": value for name, value in numbers(outcome(run)).items()}
        for name, value in reached.items():
            writer.add_scalar(name, value, run.result.steps)
        for summary in hparams_of(known(settings(run)), reached):
            writer.file_writer.add_summary(summary)
        writer.close()
