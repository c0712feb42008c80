"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747) from the user's idx files."""

import math
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.lab.errors import UserError
from thalweg.lab.models import image_cnn
from thalweg.lab.tasks.files import Layout, Preset, read_bytes
from thalweg.lab.tasks.task import FromFiles, Metric, Task, accuracy, epochs, hash_tensors, shuffled

CLASSES, SIDE = 10, 28
PROBE_ROWS = 128
ROWS_AT_ONCE = 250
BYTES = 8
"""What the third byte of an idx file says of its numbers: unsigned bytes."""


def layout(name: str, *elsewhere: str) -> Layout:
    """Where the files are expected: as torchvision lays them out, or in a folder of their own."""
    return Layout(
        what=f"{name}'s idx files, also .gz",
        folder=f"{name}/raw",
        files="{train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte}",
        required=(
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        ),
        endings=("", ".gz"),
        elsewhere=(name, *elsewhere),
    )


class Size(NamedTuple):
    """What a preset decides."""

    width: int
    hidden: int
    batch_size: int
    budget: int
    held_out: int
    """Most rows of a held-out split; of validation at most a tenth of the training rows."""


SIZES: dict[Preset, Size] = {
    "tiny": Size(width=8, hidden=64, batch_size=64, budget=400, held_out=1000),
    "paper": Size(width=32, hidden=1024, batch_size=128, budget=42_100, held_out=10_000),
}
"""Of the paper preset: 2c2d of DeepOBS (Schneider et al. 2019, arXiv:1903.05499): batches of 128 for 100 epochs."""


def task(name: str, own: Layout, preset: Preset, data: Path | None) -> Task:
    """Classify the images by two convolutions and two fully connected layers."""
    size = SIZES[preset]
    paths = own.paths(data)
    images, labels = read(paths[0], paths[1])
    test_images, test_labels = (part[: size.held_out] for part in read(paths[2], paths[3]))
    order = torch.tensor(shuffled(len(images)))
    images, labels = images[order], labels[order]
    held_out = min(size.held_out, len(images) // 10)
    train = images[held_out:], labels[held_out:]
    return Task(
        name=name,
        summary=f"classify {own.folder.partition('/')[0]} ({len(images)} images), 2 convolutions of {size.width} and"
        f" {2 * size.width} channels, preset {preset}",
        build=lambda: image_cnn(size.width, size.hidden, CLASSES),
        sample=epochs(*train),
        loss=F.cross_entropy,
        metric=Metric("accuracy", "%", "max", margin=0.5, measure=accuracy),
        probe=(train[0][:PROBE_ROWS], train[1][:PROBE_ROWS]),
        validation=(images[:held_out], labels[:held_out]),
        test=(test_images, test_labels),
        batch_size=size.batch_size,
        budget=size.budget,
        data_hash=hash_tensors(images, labels, test_images, test_labels),
        preset=preset,
        rows_at_once=ROWS_AT_ONCE,
    )


def read(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """Read two files that belong together: images (N, 1, 28, 28) in [0, 1] and labels (N,).

    Raises:
        UserError: one is damaged, or they do not fit.
    """
    pixels, numbers = read_idx(images, (SIDE, SIDE)), read_idx(labels, ())
    if len(pixels) != len(numbers) or len(pixels) < CLASSES:
        raise UserError(f"{images} has {len(pixels)} images, {labels} {len(numbers)} labels; get the files again.")
    if numbers.max() >= CLASSES:
        raise UserError(f"{labels} has the label {int(numbers.max())}; it must be 0 to {CLASSES - 1}.")
    return pixels.float().div(255)[:, None], numbers.long()


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Read an idx file of bytes: 0, 0, 8, the number of dimensions, each as 4 bytes, the highest first, then all numbers.

    Raises:
        UserError: it is truncated, no such file, or its rows have another shape.
    """
    content = read_bytes(path)
    dimensions = 1 + len(shape)
    start = 4 + 4 * dimensions
    sizes = tuple(int.from_bytes(content[4 * n : 4 * n + 4]) for n in range(1, dimensions + 1))
    magic = bytes((0, 0, BYTES, dimensions))
    if content[:4] != magic or sizes[1:] != shape:
        raise UserError(
            f"{path} begins with {content[:4].hex(' ')} and sizes {list(sizes)}; expected {magic.hex(' ')} and {['N', *shape]}:"
            " an idx file of bytes."
        )
    if len(content) != start + math.prod(sizes):
        raise UserError(
            f"{path} has {len(content)} bytes, its head says {start + math.prod(sizes)}; get the file again."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(sizes).copy())


_LAYOUTS = {
    "mnist": layout("MNIST", "mnist"),
    "fashion_mnist": layout("FashionMNIST", "fashion_mnist", "fashion-mnist"),
}
TASKS = {
    name: FromFiles(
        f"classify {own.folder.partition('/')[0]}, CNN", "accuracy (%), max", (own,), partial(task, name, own)
    )
    for name, own in _LAYOUTS.items()
}
