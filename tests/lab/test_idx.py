"""MNIST's idx files: what is read and what is refused."""

from collections.abc import Callable
from pathlib import Path

import handmade
import numpy as np
import pytest
import torch

from thalweg.lab.errors import UserError
from thalweg.lab.models import image_cnn
from thalweg.lab.tasks import load_task
from thalweg.lab.tasks.files import VARIABLE
from thalweg.lab.tasks.idx import read, read_idx


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    handmade.idx(folder, packed=False)
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_are_those_that_were_written(packed: bool, tmp_path: Path) -> None:
    numbers = np.arange(24).reshape(2, 3, 4)
    path = tmp_path / "x"
    handmade.write_idx(path, numbers, packed)
    read_back = read_idx(tmp_path / "x.gz" if packed else path, (3, 4))
    assert torch.equal(read_back, torch.tensor(numbers, dtype=torch.uint8))


def test_images_keep_their_labels(data: Path) -> None:
    own = data / "MNIST" / "raw"
    images, labels = read(own / "train-images-idx3-ubyte", own / "train-labels-idx1-ubyte")
    known = {image.numpy().tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    inputs, targets = load_task("mnist").validation
    assert len(inputs) == 8
    assert [known[image.numpy().tobytes()] for image in inputs] == targets.tolist()
    assert 0 <= float(inputs.min()) <= float(inputs.max()) <= 1


def test_files_in_a_plain_folder_are_found(data: Path) -> None:
    before = load_task("mnist")
    (data / "MNIST" / "raw").rename(data / "mnist")
    from thalweg.lab.tasks import _from_files

    _from_files.cache_clear()
    assert load_task("mnist").data_hash == before.data_hash


def test_the_network_has_the_parameters_of_2c2d() -> None:
    """3,274,634 = 5²·32 + 32 + 5²·32·64 + 64 + 3136·1024 + 1024 + 1024·10 + 10, as DeepOBS counts them."""
    assert sum(parameter.numel() for parameter in image_cnn(32, 1024, 10).parameters()) == 3_274_634


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], r"has 62735 bytes, its head says 62736; get the file again"),
        (
            "train-images-idx3-ubyte",
            lambda b: b[:5],
            r"begins with 00 00 08 03 and sizes \[0, 0, 0\]; expected .* an idx",
        ),
        ("train-images-idx3-ubyte", lambda b: b"", "begins with  and sizes"),
        ("train-images-idx3-ubyte", lambda b: b[:2] + b"\x0d" + b[3:], r"begins with 00 00 0d 03"),
        ("train-labels-idx1-ubyte", lambda b: b[:7] + b"\x4f" + b[8:-1], r"has 80 images, .* 79 labels"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0a", "has the label 10; it must be 0 to 9"),
    ],
)
def test_a_damaged_file_is_named(file: str, change: Callable[[bytes], bytes], said: str, data: Path) -> None:
    path = data / "MNIST" / "raw" / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=said) as refused:
        load_task("mnist")
    assert file in str(refused.value)
