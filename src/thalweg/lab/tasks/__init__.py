"""The tasks of the lab, by name. Adding one: a file beside this one, and a line in a table."""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

from thalweg.lab import own
from thalweg.lab.errors import UserError, check_name
from thalweg.lab.tasks.files import Preset, data_folder
from thalweg.lab.tasks.task import Batch, FromFiles, Metric, Task, joined_hash

__all__ = ["EMBEDDED", "FROM_FILES", "TASKS", "Batch", "Metric", "Task", "from_files", "load_task", "task_name"]

EMBEDDED = {
    "digits-mlp": "digits:mlp_task",
    "digits-mlp-mse": "digits:mlp_mse_task",
    "digits-cnn": "digits:cnn_task",
    "digits-autoencoder": "digits:autoencoder_task",
    "mnist1d-mlp": "mnist1d:mlp_task",
    "mnist1d-cnn": "mnist1d:cnn_task",
    "docs-gpt": "docs_gpt:docs_gpt_task",
    "eos-mlp": "digits:edge_task",
    "noisy-quadratic": "quadratic:quadratic_task",
    "deep-linear": "deep_linear:deep_linear_task",
}
"""Task name to ``module:function`` in this folder; imported when the task is wanted, so a missing data library costs
nobody else anything."""

FROM_FILES = {
    "cifar10": "cifar10",
    "mnist": "idx",
    "fashion_mnist": "idx",
    "ptb": "ptb",
    "ptb-gpt": "ptb",
    "imagenet": "imagenet",
    "imagenet-resnet50": "imagenet",
    "imagenet-vit": "imagenet",
    "sst2": "glue",
    "cola": "glue",
    "mrpc": "glue",
    "stsb": "glue",
    "qqp": "glue",
    "mnli": "glue",
    "qnli": "glue",
    "rte": "glue",
    "wnli": "glue",
    "squad": "squad",
    "text": "plain_text",
    "text-bpe": "plain_text",
}
"""Tasks on the user's files, each to the module in this folder whose table ``TASKS`` has it."""

TASKS = [*EMBEDDED, *FROM_FILES]


def load_task(name: str, preset: Preset | None = None) -> Task:
    """Build a task by name; a task on files in the size of a preset, tiny if none is given.

    ``NAME@SIZE`` is the task of that name in batches of another size, for as many epochs. A path that ends in ``.py`` is a task
    of the user's own.

    Raises:
        UserError: no task has this name, its files are missing or damaged, or the batch size is none.
    """
    plain, at, size = task_name(name).partition("@")
    if at:
        if not size.isdecimal() or size == "0":
            raise UserError(f"task {name!r} has the batch size {size!r}; it must be a whole number above 0.")
        return load_task(plain, preset).at_batch_size(int(size))
    if plain in FROM_FILES:
        return _from_files(plain, preset or "tiny", data_folder())
    return _embedded(plain) if plain in EMBEDDED else _own(own.files(own.TASKS)[plain])


def task_name(word: str, *others: str) -> str:
    """Return the name of the task that a command line's word means, with its batch size if it has one.

    Raises:
        UserError: it is neither a task nor one of the others, nor a file.
    """
    plain, at, size = word.partition("@")
    if own.is_path(plain):
        plain = own.enter(own.TASKS, plain, [*TASKS, *others])
    else:
        check_name("task or suite" if others else "task", plain, [*others, *TASKS, *own.files(own.TASKS)])
    return plain + at + size


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


@cache
def _own(path: Path) -> Task:
    """Build the task of a user's file: its ``TASK``, or what its ``task()`` returns."""
    module, code = own.load(path)
    with own.blamed(path):
        made = module.TASK if hasattr(module, "TASK") else module.task()
    if not isinstance(made, Task):
        raise UserError(f"{path}: its TASK is a {type(made).__name__}; it must be a thalweg.lab.tasks.Task.")
    with own.blamed(path):
        made.model(0)
    return replace(made, name=path.stem, preset=None, data_hash=joined_hash(made.data_hash, code))
