"""Where the Hub has each task's data, and which writer makes the task's files of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from thalweg.lab.fetch import writers
from thalweg.lab.fetch.hub import Splits
from thalweg.lab.tasks.glue import CORPORA


class Source(NamedTuple):
    """A data set of the Hub."""

    hub: str | None
    """None if the user names it."""
    folder: str
    """Inside the data folder."""
    files: tuple[str, ...]
    write: Callable[[Splits, Path], None]
    splits: tuple[str, ...] = ("train", "test")
    config: str | None = None
    reads_words: bool = False
    """Whether the task needs BERT's WordPieces too."""
    example: str = ""


def _glue(name: str) -> Source:
    corpus = CORPORA[name]
    return Source(
        hub="nyu-mll/glue",
        config=name,
        folder=f"glue/{corpus.folder}",
        files=("train.tsv", corpus.dev),
        write=partial(writers.glue, corpus),
        splits=("train", "validation_matched" if name == "mnli" else "validation"),
        reads_words=True,
    )


SOURCES = {
    "cifar10": Source("uoft-cs/cifar10", "cifar-10-batches-py", ("data_batch_1", "test_batch"), writers.cifar10),
    "mnist": Source("ylecun/mnist", "MNIST/raw", writers.IDX_FILES, writers.idx),
    "fashion_mnist": Source("zalando-datasets/fashion_mnist", "FashionMNIST/raw", writers.IDX_FILES, writers.idx),
    "imagenet": Source(
        "ILSVRC/imagenet-1k", "imagenet", ("train", "val"), writers.image_folder, ("train", "validation")
    ),
    **{name: _glue(name) for name in CORPORA},
    "squad": Source(
        "rajpurkar/squad",
        "squad",
        ("train-v1.1.json", "dev-v1.1.json"),
        writers.squad,
        ("train", "validation"),
        reads_words=True,
    ),
    "text": Source(None, "", ("input.txt",), writers.text, ("train",), example="Salesforce/wikitext"),
}
"""By task. Penn Treebank is not there in a form that runs no code of its own."""
