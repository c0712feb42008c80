"""The tasks of the lab, by name. Adding one: a file beside this one, and a line in a table."""

from functools import cache
from importlib import import_module
from pathlib import Path

from thalweg.lab.errors import UserError, check_name
from thalweg.lab.tasks.files import Preset, data_folder
from thalweg.lab.tasks.task import Batch, FromFiles, Metric, Task

__all__ = ["EMBEDDED", "FROM_FILES", "TASKS", "Batch", "Metric", "Task", "from_files", "load_task"]

EMBEDDED = {
    "digits-mlp": "digits:mlp_task",
    "digits-mlp-mse": "digits:mlp_mse_task",
    "digits-cnn": "digits:cnn_task",
    "digits-autoencoder": "digits:autoencoder_task",
    "mnist1d-cnn": "mnist1d:cnn_task",
    "docs-gpt": "docs_gpt:docs_gpt_task",
}
"""Task name to ``module:function`` in this folder; imported when the task is wanted, so a missing data library costs
nobody else anything."""

FROM_FILES = {
    "cifar10": "cifar10",
    "ptb": "ptb",
    "ptb-gpt": "ptb",
    "sst2": "glue",
    "cola": "glue",
    "mrpc": "glue",
    "stsb": "glue",
    "qqp": "glue",
    "mnli": "glue",
    "qnli": "glue",
    "rte": "glue",
    "wnli": "glue",
}
"""Tasks on the user's files, each to the module in this folder whose table ``TASKS`` has it."""

TASKS = [*EMBEDDED, *FROM_FILES]


def load_task(name: str, preset: Preset | None = None) -> Task:
    """Build a task by name; a task on files in the size of a preset, tiny if none is given.

    ``NAME@SIZE`` is the task of that name in batches of another size, for as many epochs.

    Raises:
        UserError: no task has this name, its files are missing or damaged, or the batch size is none.
    """
    plain, at, size = name.partition("@")
    check_name("task", plain, TASKS)
    if at:
        if not size.isdecimal() or size == "0":
            raise UserError(f"task {name!r} has the batch size {size!r}; it must be a whole number above 0.")
        return load_task(plain, preset).at_batch_size(int(size))
    if name in FROM_FILES:
        return _from_files(name, preset or "tiny", data_folder())
    return _embedded(name)


def from_files(name: str) -> FromFiles:
    """Return how a task on files is made; none of them is read."""
    return import_module(f"{__name__}.{FROM_FILES[name]}").TASKS[name]


@cache
def _from_files(name: str, preset: Preset, data: Path | None) -> Task:
    return from_files(name).make(preset, data)


@cache
def _embedded(name: str) -> Task:
    module, function = EMBEDDED[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), function)()
