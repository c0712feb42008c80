"""Rows of the Hub as the files that their tasks read. A file is there whole or not at all."""

import json
import pickle
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.lab.errors import UserError
from thalweg.lab.fetch.hub import Row, Splits
from thalweg.lab.tasks.glue import Corpus

CIFAR_ROWS = 10_000
"""Of one file."""
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def cifar10(splits: Splits, folder: Path) -> None:
    """Write pickled batches of (N, 3072) bytes, colours apart."""
    train, test = (_images(rows) for rows in splits)
    for start in range(0, len(train[0]), CIFAR_ROWS):
        part = slice(start, start + CIFAR_ROWS)
        _cifar(folder / f"data_batch_{start // CIFAR_ROWS + 1}", train[0][part], train[1][part])
    _cifar(folder / "test_batch", *test)


def _cifar(path: Path, images: NDArray[np.uint8], labels: list[int]) -> None:
    data = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    _write(path, pickle.dumps({b"data": data, b"labels": labels}, protocol=2))


def idx(splits: Splits, folder: Path) -> None:
    """Write idx files of bytes."""
    for number, rows in enumerate(splits):
        images, labels = _images(rows)
        for name, array in zip(IDX_FILES[2 * number :], (images, np.array(labels, np.uint8)), strict=False):
            head = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4) for size in array.shape)
            _write(folder / name, head + array.tobytes())


def _images(rows: Iterable[Row]) -> tuple[NDArray[np.uint8], list[int]]:
    images, labels = list[NDArray[np.uint8]](), list[int]()
    for row in rows:
        images.append(np.asarray(_column(row, "img", "image"), np.uint8))
        labels.append(int(_column(row, "label")))
    return np.stack(images), labels


def image_folder(splits: Splits, folder: Path) -> None:
    """Write one folder a class, one JPEG an image."""
    for split, rows in zip(("train", "val"), splits, strict=True):
        for number, row in enumerate(rows):
            path = folder / split / f"{int(_column(row, 'label')):04d}" / f"{number:08d}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            _column(row, "image").convert("RGB").save(path, quality=95)


def glue(corpus: Corpus, splits: Splits, folder: Path) -> None:
    """Write TSV files as GLUE has them: nothing quoted, so that tabs and line ends within a sentence become spaces."""
    for name, rows in zip(("train.tsv", corpus.dev), splits, strict=True):
        columns = corpus.columns or (*corpus.sentences, corpus.label)
        lines = [] if corpus.columns else ["\t".join(columns)]
        for row in rows:
            texts = [value for key, value in row.items() if key not in ("label", "idx")]
            cells = dict(zip(corpus.sentences, texts, strict=True)) | {corpus.label: _label(corpus, row["label"])}
            lines.append("\t".join(" ".join(cells.get(column, "").split()) for column in columns))
        _write(folder / name, ("\n".join(lines) + "\n").encode())


def _label(corpus: Corpus, label: float) -> str:
    return corpus.classes[int(label)] if corpus.classes else f"{label:g}"


def squad(splits: Splits, folder: Path) -> None:
    """Write JSON as the official files have it: articles, their paragraphs, their questions."""
    for name, rows in zip(("train-v1.1.json", "dev-v1.1.json"), splits, strict=True):
        articles: defaultdict[str, defaultdict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            answers = row["answers"]
            found = [
                {"text": text, "answer_start": int(start)}
                for text, start in zip(answers["text"], answers["answer_start"], strict=True)
            ]
            question = {"id": row["id"], "question": row["question"], "answers": found}
            articles[row["title"]][row["context"]].append(question)
        data = [
            {"title": title, "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs.items()]}
            for title, paragraphs in articles.items()
        ]
        _write(folder / name, json.dumps({"version": "1.1", "data": data}, ensure_ascii=False).encode())


def text(splits: Splits, folder: Path) -> None:
    """Write all texts into one file, each beginning a line."""
    texts = [str(_column(row, "text")).rstrip("\n") for row in splits[0]]
    _write(folder / "input.txt", ("\n".join(texts) + "\n").encode())


def _column(row: Row, *names: str) -> Any:
    found = [name for name in names if name in row]
    if not found:
        raise UserError(f"--hub: the data set has the columns {', '.join(row)}; it must have {' or '.join(names)}.")
    return row[found[0]]


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.part")
    draft.write_bytes(content)
    draft.replace(path)
