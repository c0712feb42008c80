"""Images in folders, a folder a class: listed, decoded when they are wanted, cropped."""

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.lab.errors import UserError
from thalweg.lab.tasks.files import library
from thalweg.lab.tasks.task import Batch, epochs

ENDINGS = (".jpeg", ".jpg", ".png")
MEAN, DEVIATION = (torch.tensor(one).reshape(3, 1, 1) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
"""Of ImageNet's channels between 0 and 1, as usual."""
LARGEST_RATIO = 4 / 3
"""Of a random crop's sides, before it is brought to a square.  Szegedy et al. 2014, arXiv:1409.4842, sect. 6"""
LARGEST_STRETCH = 20
"""Of an image's sides: one a pixel high would fill the memory once its shorter side has its size."""
CACHED_BYTES = 512 << 20
"""Of decoded images that a process keeps: as many as are around for the next epoch."""


def class_folders(folder: Path) -> list[str]:
    """Return the names of the class folders, sorted: their place is the label.

    Raises:
        UserError: there are fewer than two.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) < 2:
        raise UserError(f"{folder} has {len(names)} class folders, 2 are the fewest; expected {folder}/CLASS/*.JPEG.")
    return names


def image_files(folder: Path, classes: Sequence[str]) -> tuple[list[Path], Tensor]:
    """List the images of all classes and their labels, (N,).

    Raises:
        UserError: a class has no folder or no image.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise UserError(f"{folder} has no class folder {name!r}; train and val must have the same classes.")
        own = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in ENDINGS)
        if not own:
            raise UserError(f"{folder / name} has no image ({', '.join(ENDINGS)}); fill the class folder or remove it.")
        files += own
        labels += [label] * len(own)
    unknown = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in classes)
    if unknown:
        raise UserError(f"{folder} has the class folder {unknown[0]!r}, which the training part lacks.")
    return files, torch.tensor(labels)


def decode(path: Path, shorter: int) -> Tensor:
    """Decode an image to colours (3, H, W) of bytes, its shorter side brought to `shorter` pixels; grey ones are converted.

    Raises:
        UserError: it is damaged, no image, or has absurdly many pixels.
    """
    Image = library("PIL.Image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if max(image.size) > LARGEST_STRETCH * min(image.size):
                    raise ValueError(f"its sides are {image.size[0]} and {image.size[1]} pixels")
                image.draft("RGB", (shorter, shorter))  # a JPEG is decoded at ½, ¼ or ⅛ of its size where that will do
                colours = image.convert("RGB")
    except Exception as error:  # a damaged image may raise anything
        raise UserError(f"{path} cannot be decoded: {error}; get the file again or remove it.") from error
    scale = shorter / min(colours.size)
    size = [max(shorter, round(scale * side)) for side in colours.size]
    return torch.from_numpy(np.array(colours.resize(size, Image.Resampling.BILINEAR))).permute(2, 0, 1)


class Images:
    """Decoded images by number; those used last are kept."""

    def __init__(self, paths: Sequence[Path], shorter: int):
        self.paths, self.shorter = paths, shorter
        self.kept: OrderedDict[int, Tensor] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        if number in self.kept:
            self.kept.move_to_end(number)
            return self.kept[number]
        image = self.kept[number] = decode(self.paths[number], self.shorter)
        self.bytes += image.numel()
        while self.bytes > CACHED_BYTES:
            self.bytes -= self.kept.popitem(last=False)[1].numel()
        return image


class CentreCrops:
    """What a held-out split needs of a tensor (N, 3, `pixels`, `pixels`): its length and its slices, made when asked for."""

    def __init__(self, images: Images, pixels: int):
        self.images, self.pixels = images, pixels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> Tensor:
        numbers = range(len(self.images))[rows]
        return normalised(torch.stack([centre(self.images[number], self.pixels) for number in numbers]))


def normalised(images: Tensor) -> Tensor:
    """Bring bytes to mean 0 and variance 1, of ImageNet's channels."""
    return (images / 255 - MEAN) / DEVIATION


def centre(image: Tensor, pixels: int) -> Tensor:
    """Cut a square out of the middle."""
    top, left = ((side - pixels) // 2 for side in image.shape[1:])
    return image[:, top : top + pixels, left : left + pixels]


def crop(image: Tensor, pixels: int, smallest: float, draw: Sequence[float]) -> Tensor:
    """Cut a part out of an image, bring it to a square, and mirror it or not; five numbers in [0, 1) say which.

    Its area is uniform between `smallest` and 1 of the image's, the logarithm of its sides' ratio uniform between ±log 4/3;
    what is too long for the image is cut.  Szegedy et al. 2014, arXiv:1409.4842, sect. 6.
    """
    size, ratio, top, left, mirror = draw
    _, height, width = image.shape
    area = (smallest + (1 - smallest) * size) * height * width
    stretch = LARGEST_RATIO ** (2 * ratio - 1)
    rows, columns = min(height, round(math.sqrt(area / stretch))), min(width, round(math.sqrt(area * stretch)))
    first, start = int(top * (height - rows + 1)), int(left * (width - columns + 1))
    part = image[None, :, first : first + rows, start : start + columns].float()
    square = F.interpolate(part, (pixels, pixels), mode="bilinear", antialias=True)[0]
    return square.flip(-1) if mirror < 0.5 else square


def random_crops(
    images: Images, labels: Tensor, pixels: int, smallest: float
) -> Callable[[torch.Generator, int], Iterator[Batch]]:
    """Return a sampler of crops, each image once an epoch."""
    numbers = epochs(torch.arange(len(images)), labels)

    def sample(generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        for rows, targets in numbers(generator, batch_size):
            draws = cast(list[list[float]], torch.rand(len(rows), 5, generator=generator).tolist())
            own = (images[number] for number in cast(list[int], rows.tolist()))
            crops = [crop(image, pixels, smallest, draw) for image, draw in zip(own, draws, strict=True)]
            yield normalised(torch.stack(crops)), targets

    return sample
