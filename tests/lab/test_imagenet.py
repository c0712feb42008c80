"""Images in folders: what is read, how it is cropped, what is refused."""

import itertools
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from thalweg.lab.errors import UserError
from thalweg.lab.run import evaluate
from thalweg.lab.tasks import load_task
from thalweg.lab.tasks.files import VARIABLE
from thalweg.lab.tasks.images import DEVIATION, MEAN, Images, crop, decode


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    handmade.images(folder)
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


def test_each_image_is_in_one_split_with_the_label_of_its_folder(data: Path) -> None:
    task: Any = load_task("imagenet")
    validation, test = task.validation, task.test
    assert (len(validation[0]), len(test[0])) == (40 // 10, 12)
    paths = [*validation[0].images.paths, *(path for path in task.sample.__closure__[0].cell_contents.paths)]
    assert sorted(paths) == sorted((data / "imagenet" / "train").glob("*/*"))
    for inputs, labels in (validation, test):
        assert [path.parent.name for path in inputs.images.paths] == [f"n0{label + 1}" for label in labels.tolist()]
        assert inputs[0:3].shape == (3, 3, 64, 64)


def test_an_image_keeps_its_shape_and_grey_becomes_colour(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((100, 200), 7, dtype=np.uint8)).save(path)
    image = decode(path, 50)
    assert image.shape == (3, 50, 100)
    assert image.dtype == torch.uint8
    assert (image == 7).all()


def test_the_middle_is_that_of_the_image(data: Path) -> None:
    task: Any = load_task("imagenet")
    inputs = task.validation[0]
    whole = decode(inputs.images.paths[1], 72)
    top, left = (whole.shape[1] - 64) // 2, (whole.shape[2] - 64) // 2
    expected = whole[:, top : top + 64, left : left + 64].double() / 255
    torch.testing.assert_close(inputs[1:2][0].double() * DEVIATION + MEAN, expected, atol=1e-6, rtol=0)


def test_a_crop_of_everything_is_the_image_and_mirrors(tmp_path: Path) -> None:
    image = torch.randint(256, (3, 48, 48), dtype=torch.uint8)
    whole = crop(image, 48, 1.0, [0.3, 0.5, 0.2, 0.9, 0.7])
    torch.testing.assert_close(whole, image.float())
    assert torch.equal(crop(image, 48, 1.0, [0.3, 0.5, 0.2, 0.9, 0.2]), whole.flip(-1))


def test_a_crop_has_the_area_and_ratio_that_are_drawn() -> None:
    """Rows and columns are written into an image; the crop's corners say which part it is."""
    rows, columns = torch.arange(100.0)[:, None].expand(100, 100), torch.arange(100.0).expand(100, 100)
    image = torch.stack([rows, columns, rows])
    part = image[:, 10:60, 20:70]
    expected = interpolate(part[None], (32, 32), mode="bilinear", antialias=True)[0]
    found = crop(image, 32, 0.25, [0.0, 0.5, 10.5 / 51, 20.5 / 51, 0.9])
    torch.testing.assert_close(found, expected)


def test_images_beyond_the_memory_granted_are_decoded_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted((data / "imagenet" / "train").glob("*/*"))
    whole = Images(paths, 32)
    expected = [whole[number] for number in range(len(paths))]
    monkeypatch.setattr("thalweg.lab.tasks.images.CACHED_BYTES", 50_000)
    few = Images(paths, 32)
    for number in [*range(len(paths)), *range(len(paths))]:
        assert torch.equal(few[number], expected[number])
        assert few.bytes == sum(image.numel() for image in few.kept.values()) <= 50_000


@pytest.mark.parametrize("name", ["imagenet-resnet50", "imagenet-vit"])
def test_an_evaluation_in_parts_is_that_of_the_whole(name: str, data: Path) -> None:
    task = load_task(name)
    model = task.model(0)
    inputs, labels = task.validation
    loss, value, _ = evaluate(task, model, task.validation)
    with torch.no_grad():
        outputs = model.eval()(inputs[:])
    assert loss == pytest.approx(task.loss(outputs, labels).item(), rel=1e-4)
    assert value == pytest.approx(100 * (outputs.argmax(1) == labels).float().mean().item())


def test_the_networks_of_the_paper_have_their_parameters() -> None:
    """25,557,032 of ResNet-50 and 22,050,664 of ViT-S/16 with 1,000 classes, as their papers' tables count them."""
    from thalweg.lab.tasks.imagenet import RESNETS, VITS

    for network, expected in ((RESNETS["paper"], 25_557_032), (VITS["paper"], 22_050_664)):
        with torch.device("meta"):
            model = network.build(1000)
        assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_batches_are_the_same_whether_or_not_images_are_kept(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("imagenet-vit")
    first = [inputs for inputs, _ in itertools.islice(task.batches(0), 3)]
    monkeypatch.setattr("thalweg.lab.tasks.images.CACHED_BYTES", 0)
    assert all(torch.equal(a, b) for a, (b, _) in zip(first, task.batches(0), strict=False))


def test_an_empty_class_folder_is_named(data: Path) -> None:
    (data / "imagenet" / "train" / "n03").mkdir()
    with pytest.raises(UserError, match=r"train/n03 has no image \(.*\); fill the class folder or remove it"):
        load_task("imagenet")


def test_a_class_of_one_part_alone_is_named(data: Path) -> None:
    own = data / "imagenet"
    (own / "val" / "n02").rename(own / "val" / "n03")
    with pytest.raises(UserError, match="val has no class folder 'n02'"):
        load_task("imagenet")
    (own / "val" / "n02").mkdir()
    (own / "val" / "n03" / "0.JPEG").rename(own / "val" / "n02" / "0.JPEG")
    with pytest.raises(UserError, match="val has the class folder 'n03', which the training part lacks"):
        load_task("imagenet")


def test_images_without_class_folders_are_named(data: Path) -> None:
    own = data / "imagenet" / "train"
    for path in sorted(own.glob("*/*")):
        path.rename(own / f"{path.parent.name}{path.name}")
    for path in own.iterdir():
        if path.is_dir():
            path.rmdir()
    with pytest.raises(UserError, match=r"train has 0 class folders, 2 are the fewest; expected .*/CLASS/\*.JPEG"):
        load_task("imagenet")


def test_damaged_and_absurd_images_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = data / "imagenet" / "val" / "n01" / "0.JPEG"
    whole = path.read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"0.JPEG cannot be decoded: .*get the file again or remove it"):
            decode(path, 64)
    Image.new("RGB", (2000, 4)).save(path, "JPEG")
    with pytest.raises(UserError, match="its sides are 2000 and 4 pixels"):
        decode(path, 64)
    path.write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="decompression bomb"):
        decode(path, 64)
