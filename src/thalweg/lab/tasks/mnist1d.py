"""MNIST-1D: ten drawn signals, padded, moved, sheared and noised by its authors' generator.  arXiv:2011.14439"""

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from thalweg.lab.models import mlp, signal_cnn
from thalweg.lab.tasks.task import Metric, Splits, Task, accuracy, epochs, hash_tensors
from thalweg.lab.untyped import untyped

BATCH = 50
VALIDATION = 500
LENGTH, CLASSES = 40, 10


@cache
def signals() -> Splits:
    """Generate the published data set, once a process; the last rows of its training part are the validation split.

    Signals (N, 40) and labels (N,) of the three splits: 3,500, 500 and 1,000 rows.
    """
    module, numpy_state, state = untyped("mnist1d.data"), np.random.get_state(), random.getstate()
    try:
        made: dict[str, Any] = module.make_dataset()  # seeds numpy and Python for the whole process
    finally:
        np.random.set_state(numpy_state)
        random.setstate(state)
    x, y = (torch.as_tensor(made[name]) for name in ("x", "y"))
    test = torch.as_tensor(made["x_test"]).float(), torch.as_tensor(made["y_test"])
    return Splits((x[:-VALIDATION].float(), y[:-VALIDATION]), (x[-VALIDATION:].float(), y[-VALIDATION:]), test)


def cnn_task() -> Task:
    """Classify the signals by the convolutional network of their authors."""
    return _task("mnist1d-cnn", "three convolutions", lambda: signal_cnn(LENGTH, CLASSES))


def mlp_task() -> Task:
    """Classify the signals by the fully connected network of their authors, which cannot know what moving a signal is."""
    return _task("mnist1d-mlp", "MLP 40-100-100-10", lambda: mlp([LENGTH, 100, 100, CLASSES]))


def _task(name: str, network: str, build: Callable[[], nn.Module]) -> Task:
    data = signals()
    return Task(
        name=name,
        summary=f"classify MNIST-1D signals, {network}",
        build=build,
        sample=epochs(*data.train),
        loss=F.cross_entropy,
        metric=Metric("accuracy", "%", "max", margin=1.0, measure=accuracy),
        probe=data.train,
        validation=data.validation,
        test=data.test,
        batch_size=BATCH,
        budget=600,
        data_hash=hash_tensors(*data.train, *data.validation, *data.test),
    )
