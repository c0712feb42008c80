"""Data sets of the Hub, written as files: what a task reads of them is what the rows say. The Hub itself is stood in for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Command
from PIL import Image

from thalweg.lab.errors import UserError
from thalweg.lab.fetch import hub
from thalweg.lab.fetch.sources import SOURCES
from thalweg.lab.tasks import cifar10, glue, idx, squad
from thalweg.lab.tasks.files import VARIABLE

draw = np.random.default_rng(0)


def pictures(shape: tuple[int, ...], key: str, rows: int = 60) -> list[dict[str, Any]]:
    arrays = draw.integers(0, 256, (rows, *shape), dtype=np.uint8)
    return [{key: Image.fromarray(array), "label": number % 10} for number, array in enumerate(arrays)]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Rows by split, which the library is made to return; the vocabulary is a file by hand."""
    rows: dict[str, Any] = {}

    class Library:
        @staticmethod
        def load_dataset(name: str, config: str | None, split: str) -> Any:
            rows["asked"] = name, config
            return rows[split]

        @staticmethod
        def hf_hub_download(name: str, file: str) -> str:
            path = tmp_path / "cache.txt"
            path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n", encoding="utf-8")
            return str(path)

    monkeypatch.setattr(hub, "needed", lambda *_: Library)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "data"))
    return rows


def test_cifar_is_read_as_it_was(command: Command, stand_in: dict[str, Any], tmp_path: Path) -> None:
    stand_in |= {"train": pictures((32, 32, 3), "img"), "test": pictures((32, 32, 3), "img")}
    assert command("fetch", "cifar10").returncode == 0
    assert stand_in["asked"] == ("uoft-cs/cifar10", None)
    images, labels = cifar10.read_batch(tmp_path / "data/cifar-10-batches-py/data_batch_1")
    assert labels.tolist() == [row["label"] for row in stand_in["train"]]
    there = torch.stack([torch.from_numpy(np.array(row["img"])).permute(2, 0, 1) for row in stand_in["train"]])
    assert torch.equal(images, there)


def test_mnist_is_read_as_it_was(command: Command, stand_in: dict[str, Any], tmp_path: Path) -> None:
    stand_in |= {"train": pictures((28, 28), "image"), "test": pictures((28, 28), "image", 20)}
    assert command("fetch", "fashion_mnist").returncode == 0
    paths = idx.TASKS["fashion_mnist"].layouts[0].paths(tmp_path / "data")
    images, labels = idx.read(paths[2], paths[3])
    assert labels.tolist() == [row["label"] for row in stand_in["test"]]
    there = torch.stack([torch.from_numpy(np.array(row["image"])) for row in stand_in["test"]])
    assert torch.equal(images[:, 0], there.float() / 255)


@pytest.mark.parametrize("name", glue.CORPORA)
def test_glue_is_read_as_it_was(name: str, command: Command, stand_in: dict[str, Any], tmp_path: Path) -> None:
    corpus = glue.CORPORA[name]
    labels = [number % len(corpus.classes) if corpus.classes else number / 4 for number in range(12)]
    texts = {f"text{number}": "two words" for number in range(len(corpus.sentences))}
    rows = [{**texts, "label": label, "idx": number} for number, label in enumerate(labels)]
    stand_in |= {"train": rows, "validation": rows, "validation_matched": rows}
    assert command("fetch", name).returncode == 0
    assert stand_in["asked"] == ("nyu-mll/glue", name)
    for path in corpus.layout.paths(tmp_path / "data"):
        said = [label for _, label in glue.read(path, corpus)]
        expected = [corpus.classes[int(label)] if corpus.classes else f"{label:g}" for label in labels]
        assert said == expected
    assert (tmp_path / "data/bert_vocab/vocab.txt").exists()


def test_squad_is_read_as_it_was(command: Command, stand_in: dict[str, Any], tmp_path: Path) -> None:
    answers = {"text": ["yes"], "answer_start": [4]}
    row = {"title": "t", "context": "say yes or no", "question": "what?", "answers": answers}
    stand_in |= {split: [{**row, "id": f"{split}{n}"} for n in range(3)] for split in ("train", "validation")}
    assert command("fetch", "squad").returncode == 0
    path = squad.LAYOUT.paths(tmp_path / "data")[1]
    (article,) = json.loads(path.read_bytes())["data"]
    (paragraph,) = article["paragraphs"]
    assert [question["id"] for question in paragraph["qas"]] == ["validation0", "validation1", "validation2"]


def test_images_lie_in_a_folder_a_class(command: Command, stand_in: dict[str, Any], tmp_path: Path) -> None:
    stand_in |= {"train": pictures((8, 8), "image", 12), "validation": pictures((8, 8), "image", 10)}
    assert command("fetch", "imagenet", "--hub", "somebody/pictures").returncode == 0
    assert stand_in["asked"] == ("somebody/pictures", None)
    assert len(list((tmp_path / "data/imagenet/train").iterdir())) == 10
    assert len(list((tmp_path / "data/imagenet/train/0001").glob("*.JPEG"))) == 2


def test_what_cannot_be_fetched_is_said_in_a_line(command: Command, stand_in: dict[str, Any], tmp_path: Path) -> None:
    assert "--hub is not given; text is whatever text you name" in command("fetch", "text").stderr
    stand_in["train"] = [{"words": "x"}]
    assert "has the columns words; it must have text" in command("fetch", "text", "--hub", "a/b").stderr
    stand_in["train"] = [{"text": "one\n"}, {"text": "two"}]
    assert command("fetch", "text", "--hub", "a/b").returncode == 0
    assert (tmp_path / "data/input.txt").read_text() == "one\ntwo\n"
    assert "is there already" in command("fetch", "text", "--hub", "a/b").stderr
    assert "task 'ptb' is unknown" in command("fetch", "ptb").stderr
    del stand_in["train"]
    assert "cannot be loaded: 'train'" in command("fetch", "cifar10").stderr


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UserError, match=r'pip install "thalweg\[hub\]"'):
        hub.load("a/b", None, ["train"])


def test_every_task_on_files_but_penn_treebank_has_a_source() -> None:
    from thalweg.lab.tasks import FROM_FILES

    assert set(FROM_FILES) - set(SOURCES) == {"ptb", "ptb-gpt", "imagenet-resnet50", "imagenet-vit", "text-bpe"}
