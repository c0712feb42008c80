"""Data folders in the layout of real ones, made by hand: a few rows each."""

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["<unk>", "N", "the", "of", "a", "market", "said", "year"]


def cifar10(folder: Path, batches: int = 2, rows: int = 80) -> Path:
    """Write CIFAR-10's python version into a data folder and return its own folder."""
    own = folder / "cifar-10-batches-py"
    own.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in [*(f"data_batch_{number + 1}" for number in range(batches)), "test_batch"]:
        write_batch(
            own / name, draw.integers(0, 256, (rows, 3072), dtype=np.uint8), draw.integers(0, 10, rows).tolist()
        )
    return own


def write_batch(path: Path, data: Any, labels: Any) -> None:
    path.write_bytes(pickle.dumps({b"data": data, b"labels": labels, b"batch_label": b"by hand"}, protocol=2))


def ptb(folder: Path) -> Path:
    """Write Penn Treebank's three text files into a data folder and return their own folder."""
    own = folder / "ptb"
    own.mkdir(parents=True)
    draw = random.Random(0)
    for split, lines in {"train": 60, "valid": 20, "test": 20}.items():
        sentences = [f" {' '.join(WORDS)} \n", *(f" {' '.join(draw.choices(WORDS, k=9))} \n" for _ in range(lines))]
        (own / f"ptb.{split}.txt").write_text("".join(sentences), encoding="utf-8")
    return own
