"""The tasks of the lab, by name. Adding one: a file beside this one, and a line in the table."""

from functools import cache
from importlib import import_module

from thalweg.lab.errors import check_name
from thalweg.lab.tasks.task import Batch, Metric, Task

__all__ = ["TASKS", "Batch", "Metric", "Task", "load_task"]

TASKS = {
    "digits-mlp": "digits:mlp_task",
    "digits-mlp-mse": "digits:mlp_mse_task",
    "digits-cnn": "digits:cnn_task",
    "digits-autoencoder": "digits:autoencoder_task",
    "mnist1d-cnn": "mnist1d:cnn_task",
    "docs-gpt": "docs_gpt:docs_gpt_task",
}
"""Task name to ``module:function`` in this folder; imported when the task is wanted, so a missing data library costs
nobody else anything."""


@cache
def load_task(name: str) -> Task:
    """Build a task by name.

    Raises:
        UserError: no task has this name.
    """
    module, function = TASKS[check_name("task", name, TASKS)].split(":")
    return getattr(import_module(f"{__name__}.{module}"), function)()
