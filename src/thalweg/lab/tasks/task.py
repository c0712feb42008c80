"""What a task is: a network, endless training batches, a loss, a metric, three splits and a budget."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from thalweg.lab.errors import UserError
from thalweg.lab.tasks.files import Layout, Preset

Batch = tuple[Tensor, Tensor]
"""Inputs and targets of one evaluation of the loss."""


class Splits(NamedTuple):
    """A data set."""

    train: Batch
    validation: Batch
    test: Batch


@dataclass(frozen=True)
class Metric:
    """The number a task is judged by, or one that is reported beside it."""

    name: str
    unit: str
    better: Literal["min", "max"]
    margin: float
    """Smallest difference that matters to a user, in the metric's unit; closer than this is a tie."""
    measure: Callable[[Tensor, Tensor], Tensor]
    """(outputs, targets) of some examples to what is known of each, (N, …): parts of a split are measured one by one."""
    sum_up: Callable[[Tensor], Tensor] = torch.mean
    """That of all examples of a split, (N, …), to a 0-D tensor; their mean, unless the metric is no mean."""

    @property
    def said(self) -> str:
        """Name, unit and direction in one line."""
        return f"{self.name} ({self.unit}), {self.better}"

    def worse(self) -> float:
        """Return the worst possible value: what a failed run counts as."""
        return float("inf") if self.better == "min" else float("-inf")


@dataclass(frozen=True)
class Task:
    """One learning problem; everything about it that a result depends on.

    A new task is one file that builds a `Task` and one line in `thalweg.lab.tasks`.
    """

    name: str
    summary: str
    build: Callable[[], nn.Module]
    """Makes the network from torch's global generator."""
    sample: Callable[[torch.Generator, int], Iterator[Batch]]
    """(generator, batch size) to endless training batches."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """(outputs, targets) to the mean loss, a 0-D tensor."""
    metric: Metric
    """What runs are judged by."""
    probe: Batch
    """Training examples that curvature is measured on: all of them where they are few, else a fixed, evenly spread part."""
    validation: Batch
    test: Batch
    batch_size: int
    budget: int
    """Gradient-equivalents of one run: gradients of one batch, whoever asks for them."""
    data_hash: str
    preset: Preset | None = None
    """Size of a task on files; an embedded one has one size."""
    also: tuple[Metric, ...] = ()
    """What else is reported of the validation split at a run's end; nothing is ranked by it."""
    rows_at_once: int = 1000
    """Most examples of a held-out split that the network gets at a time; what bounds the memory of an evaluation."""

    def model(self, seed: int) -> nn.Module:
        """Build the network of a seed; the caller's random state is left alone."""
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(stream(seed, "initialisation"))
        try:
            return self.build()
        finally:
            torch.set_rng_state(state)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Start the endless batches of a seed, the same for every optimizer."""
        return self.sample(torch.Generator().manual_seed(stream(seed, "batches")), self.batch_size)

    def at_batch_size(self, batch_size: int) -> "Task":
        """Return the same task in batches of another size, for as many epochs, as ``NAME@SIZE``.

        Raises:
            UserError: there are fewer training examples.
        """
        budget = max(1, round(self.budget * self.batch_size / batch_size))
        task = replace(self, name=f"{self.name}@{batch_size}", batch_size=batch_size, budget=budget)
        next(task.batches(0))
        return task


@dataclass(frozen=True)
class FromFiles:
    """How a task on the user's files is made, and what can be said of it before they are read."""

    what: str
    judged: str
    layouts: tuple[Layout, ...]
    """All files it needs."""
    make: Callable[[Preset, Path | None], Task]
    """(preset, data folder) to the task."""


def stream(seed: int, purpose: str) -> int:
    """Derive an independent 63-bit seed for one purpose of a run."""
    return int.from_bytes(hashlib.sha256(f"{purpose}/{seed}".encode()).digest()[:8]) >> 1


def shuffled(count: int) -> list[int]:
    """Return the numbers below a count in an order that is always the same: what splits a data set."""
    return cast(list[int], torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist())


def hash_tensors(*tensors: Tensor) -> str:
    """Hash the bytes, shapes and dtypes of some tensors; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def joined_hash(*hashes: str) -> str:
    """Hash some hashes together; one alone, the others empty, stays as it is."""
    given = [one for one in hashes if one]
    return given[0] if len(given) == 1 else hashlib.sha256(" ".join(given).encode()).hexdigest()[:16]


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """100 for each row whose largest output is its label, 0 for the others: in the mean, the percentage right."""
    return 100 * (outputs.argmax(-1) == labels).float()


def epochs(inputs: Tensor, targets: Tensor) -> Callable[[torch.Generator, int], Iterator[Batch]]:
    """Return a sampler that shuffles anew each epoch and drops the last incomplete batch."""

    def sample(generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        if batch_size > len(inputs):
            raise UserError(f"the batch size is {batch_size}; there are {len(inputs)} training examples.")
        while True:
            order = torch.randperm(len(inputs), generator=generator)
            for start in range(0, len(inputs) - batch_size + 1, batch_size):
                rows = order[start : start + batch_size]
                yield inputs[rows], targets[rows]

    return sample
