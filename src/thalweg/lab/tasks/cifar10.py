"""CIFAR-10 (Krizhevsky 2009) from the user's files, in its python version: pickled batches of 32 × 32 colour images."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.lab.errors import UserError
from thalweg.lab.models import resnet18
from thalweg.lab.tasks.files import Layout, Preset
from thalweg.lab.tasks.pickled import read_pickle
from thalweg.lab.tasks.task import Batch, FromFiles, Metric, Task, accuracy, epochs, hash_tensors

LAYOUT = Layout(
    what="CIFAR-10, python version",
    folder="cifar-10-batches-py",
    files="{data_batch_1, …, data_batch_5, test_batch}",
    required=("data_batch_1", "test_batch"),
)
CLASSES, PIXELS = 10, 3 * 32 * 32
BATCHES = 5
PADDING = 4
PROBE_ROWS = 128
ROWS_AT_ONCE = 100
"""The quickest on one core, by a little."""


class Size(NamedTuple):
    """What a preset decides; rows are those of each held-out split, at most a tenth of the training rows."""

    width: int
    batch_size: int
    budget: int
    rows: int


SIZES: dict[Preset, Size] = {
    "tiny": Size(width=8, batch_size=64, budget=300, rows=1000),
    "paper": Size(width=64, batch_size=128, budget=64_000, rows=10_000),
}
"""Of the paper preset: batch, steps and augmentation of He et al. 2015, arXiv:1512.03385, sect. 4.2."""


def resnet_task(preset: Preset, data: Path | None) -> Task:
    """Classify the images by a ResNet-18; any number of the five training batches will do, and the summary says it."""
    folder, size = LAYOUT.find(data), SIZES[preset]
    files = [path for number in range(1, BATCHES + 1) if (path := folder / f"data_batch_{number}").is_file()]
    images, labels = (torch.cat(parts) for parts in zip(*map(read_batch, files), strict=True))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    held_out = min(size.rows, len(images) // 10)
    test_images, test_labels = (part[: size.rows] for part in read_batch(folder / "test_batch"))
    normalise = normaliser(images[held_out:])
    train = images[held_out:], labels[held_out:]
    return Task(
        name="cifar10",
        summary=f"classify CIFAR-10 ({len(files)} of {BATCHES} batches), ResNet-18 of width {size.width}, preset {preset}",
        build=lambda: resnet18(size.width, CLASSES),
        sample=augmented(epochs(*train), normalise),
        loss=F.cross_entropy,
        metric=Metric("accuracy", "%", "max", margin=1.0, measure=accuracy),
        probe=(normalise(train[0][:PROBE_ROWS]), train[1][:PROBE_ROWS]),
        validation=(normalise(images[:held_out]), labels[:held_out]),
        test=(normalise(test_images), test_labels),
        batch_size=size.batch_size,
        budget=size.budget,
        data_hash=hash_tensors(images, labels, test_images, test_labels),
        preset=preset,
        rows_at_once=ROWS_AT_ONCE,
    )


def read_batch(path: Path) -> Batch:
    """Read one file: images (N, 3, 32, 32) of bytes and labels (N,).

    Raises:
        UserError: it is damaged, no pickle of arrays, or has another layout.
    """
    content = read_pickle(path)
    found = cast(dict[Any, Any], content) if isinstance(content, dict) else {}
    pixels, labels = (found.get(key) for key in (b"data", b"labels"))
    wanted = f"expected {{b'data': uint8 (N, {PIXELS}), b'labels': list of N numbers 0 to {CLASSES - 1}}}"
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        raise UserError(f"{path} has another layout: {wanted}.")
    numbers = cast(list[Any], labels)
    if pixels.dtype != np.uint8 or pixels.shape != (len(numbers), PIXELS) or not numbers:
        raise UserError(f"{path} has {len(numbers)} labels, data {pixels.dtype} {pixels.shape}: {wanted}.")
    wrong = [label for label in numbers if type(label) is not int or not 0 <= label < CLASSES]
    if wrong:
        raise UserError(f"{path} has the label {wrong[0]!r}: {wanted}.")
    return torch.from_numpy(pixels).reshape(-1, 3, 32, 32), torch.tensor(numbers)


def normaliser(images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what maps images of bytes to numbers with the mean 0 and variance 1 of these images, channel by channel."""
    counts = torch.stack([images[:, channel].flatten().bincount(minlength=256) for channel in range(3)]).double()
    values, weights = torch.arange(256).double(), counts / counts.sum(1, keepdim=True)
    mean = weights @ values
    deviation = (weights @ values.square() - mean.square()).sqrt().clamp_min(1)
    mean, deviation = (number.float().reshape(3, 1, 1) for number in (mean, deviation))
    return lambda images: (images - mean) / deviation


def augmented(
    sample: Callable[[torch.Generator, int], Iterator[Batch]], normalise: Callable[[Tensor], Tensor]
) -> Callable[[torch.Generator, int], Iterator[Batch]]:
    """Return a sampler that normalises images of bytes, crops each at random and flips every other at random."""

    def augmented_sample(generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        for images, labels in sample(generator, batch_size):
            corners = torch.randint(2 * PADDING + 1, (2, len(images)), generator=generator)
            flips = torch.randint(2, (len(images),), generator=generator).bool()
            yield cropped(normalise(images), corners, flips), labels

    return augmented_sample


def cropped(images: Tensor, corners: Tensor, flips: Tensor) -> Tensor:
    """Pad images (N, C, H, W) with zeros, cut the original size out at corners (2, N), and mirror where `flips`."""
    count, channels, height, width = images.shape
    rows = corners[0, :, None] + torch.arange(height)
    columns = corners[1, :, None] + torch.arange(width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    image, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
    return F.pad(images, [PADDING] * 4)[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


TASKS = {"cifar10": FromFiles("classify CIFAR-10, ResNet-18", "accuracy (%), max", (LAYOUT,), resnet_task)}
