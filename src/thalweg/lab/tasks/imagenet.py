"""ImageNet (Deng et al. 2009) from the user's folders of images, a folder a class: a ResNet-50 and a ViT-S/16.

Any such tree will do. The test split is the folder ``val``; validation is a fixed part of ``train``.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.lab.models.hugging_face import resnet50, vit
from thalweg.lab.tasks.files import Layout, Preset
from thalweg.lab.tasks.images import CentreCrops, Images, class_folders, image_files, random_crops
from thalweg.lab.tasks.scores import ACCURACY
from thalweg.lab.tasks.task import FromFiles, Task, shuffled

LAYOUT = Layout(
    what="ImageNet, or any images in a folder a class",
    folder="imagenet",
    files="{train, val}/CLASS/*.JPEG",
    required=("train", "val"),
)
PROBE_ROWS = 64


class Network(NamedTuple):
    """A network in one size."""

    said: str
    build: Callable[[int], nn.Module]
    """Of a number of classes."""
    batch_size: int


class Size(NamedTuple):
    """What a preset decides of the images and the budget."""

    pixels: int
    """Of an image's side as the network sees it."""
    shorter: int
    """Of the shorter side of the image that it is cut out of."""
    smallest: float
    """Part of the image's area that a training crop has at least."""
    held_out: int
    """Most images of a held-out split; of validation at most a tenth of the training images, too."""
    rows_at_once: int
    steps: int | None = None
    """None for `EPOCHS`."""


SIZES: dict[Preset, Size] = {
    "tiny": Size(pixels=64, shorter=72, smallest=0.35, held_out=500, rows_at_once=100, steps=300),
    "paper": Size(pixels=224, shorter=256, smallest=0.08, held_out=50_000, rows_at_once=50),
}
EPOCHS = 90
"""Goyal et al. 2017, arXiv:1706.02677, sect. 5.1; Beyer et al. 2022, arXiv:2205.01580, for the ViT."""
RESNETS: dict[Preset, Network] = {
    "tiny": Network("ResNet of 4 bottlenecks, width 16", partial(resnet50, 16, [1, 1, 1, 1]), 32),
    "paper": Network("ResNet-50", partial(resnet50, 64, [3, 4, 6, 3]), 256),
}
"""Of the paper preset: arXiv:1706.02677, without its label smoothing."""
VITS: dict[Preset, Network] = {
    "tiny": Network("ViT of 4 layers, width 64", partial(vit, 64, 8, 64, 4, 4), 32),
    "paper": Network("ViT-S/16", partial(vit, 224, 16, 384, 12, 6), 1024),
}
"""Of the paper preset: arXiv:2205.01580, with the class token and without RandAugment and Mixup."""


def task(name: str, networks: dict[Preset, Network], preset: Preset, data: Path | None) -> Task:
    """Classify images."""
    folder, size, network = LAYOUT.find(data), SIZES[preset], networks[preset]
    classes = class_folders(folder / "train")
    files, labels = image_files(folder / "train", classes)
    test_files, test_labels = image_files(folder / "val", classes)
    order, test_order = shuffled(len(files)), shuffled(len(test_files))[: size.held_out]
    held_out = min(size.held_out, len(files) // 10)

    def part(rows: Sequence[int]) -> tuple[Images, Tensor]:
        return Images([files[row] for row in rows], size.shorter), labels[torch.tensor(rows)]

    train, train_labels = part(order[held_out:])
    validation, validation_labels = part(order[:held_out])
    test = Images([test_files[row] for row in test_order], size.shorter)
    return Task(
        name=name,
        summary=f"{len(files)} images of {len(classes)} classes at {size.pixels} pixels, {network.said}, preset {preset}",
        build=lambda: network.build(len(classes)),
        sample=random_crops(train, train_labels, size.pixels, size.smallest),
        loss=F.cross_entropy,
        metric=ACCURACY,
        probe=(CentreCrops(train, size.pixels)[:PROBE_ROWS], train_labels[:PROBE_ROWS]),
        validation=(crops(validation, size.pixels), validation_labels),
        test=(crops(test, size.pixels), test_labels[torch.tensor(test_order)]),
        batch_size=network.batch_size,
        budget=size.steps or EPOCHS * max(1, len(train) // network.batch_size),
        data_hash=hash_names(folder, [*files, *test_files]),
        preset=preset,
        rows_at_once=size.rows_at_once,
    )


def crops(images: Images, pixels: int) -> Tensor:
    """Return the middle of each image; of a held-out split nothing is asked but its length and slices."""
    return cast(Tensor, CentreCrops(images, pixels))


def hash_names(folder: Path, files: Sequence[Path]) -> str:
    """Hash the names and sizes of files: to read all of ImageNet takes as long as an epoch."""
    names = "".join(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n" for path in files)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


_RESNET, _VIT = "classify images, a folder a class, ResNet-50", "classify images, a folder a class, ViT-S/16"
TASKS = {
    "imagenet": FromFiles(_RESNET, ACCURACY.said, (LAYOUT,), partial(task, "imagenet", RESNETS)),
    "imagenet-resnet50": FromFiles(_RESNET, ACCURACY.said, (LAYOUT,), partial(task, "imagenet-resnet50", RESNETS)),
    "imagenet-vit": FromFiles(_VIT, ACCURACY.said, (LAYOUT,), partial(task, "imagenet-vit", VITS)),
}
