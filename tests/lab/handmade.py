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


PIECES = ["the", "cat", "dog", "sat", "ran", "on", "mat", "good", "bad", "##s", "##ly", "a", "film", ".", "?", "very"]
TEXT = ["the", "cats", "dog", "sat", "ran", "on", "a", "mat", "film", "very", "good", "badly", "."]
GLUE: dict[str, tuple[str, list[str]]] = {
    "SST-2": ("sentence\tlabel", ["0", "1"]),
    "CoLA": ("source\tlabel\tstar\tsentence", ["0", "1"]),
    "MRPC": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", ["0", "1"]),
    "STS-B": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        ["0.000", "2.5", "5.000"],
    ),
    "QQP": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", ["0", "1"]),
    "MNLI": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
        "\tsentence1\tsentence2\tlabel1\tgold_label",
        ["entailment", "neutral", "contradiction"],
    ),
    "QNLI": ("index\tquestion\tsentence\tlabel", ["entailment", "not_entailment"]),
    "RTE": ("index\tsentence1\tsentence2\tlabel", ["entailment", "not_entailment"]),
    "WNLI": ("index\tsentence1\tsentence2\tlabel", ["0", "1"]),
}
"""Each folder's header line, as GLUE publishes it, and its labels."""
TEXT_COLUMNS = {"sentence", "#1 String", "#2 String", "sentence1", "sentence2", "question1", "question2", "question"}


def bert_vocab(folder: Path) -> Path:
    """Write a vocab.txt of a few WordPieces."""
    own = folder / "bert_vocab"
    own.mkdir(parents=True)
    (own / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES]) + "\n")
    return own


def glue(folder: Path) -> Path:
    """Write GLUE's nine training and dev files, and the WordPieces, into a data folder."""
    bert_vocab(folder)
    draw = random.Random(0)
    for name, (header, labels) in GLUE.items():
        own = folder / "glue" / name
        own.mkdir(parents=True)
        for split, rows in {"train": 60, "dev_matched" if name == "MNLI" else "dev": 20}.items():
            columns = header.split("\t")
            lines = [] if name == "CoLA" else [header]
            for number in range(rows):
                lines.append("\t".join(_cell(column, columns, labels, number, draw) for column in columns))
            (own / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "glue"


def _cell(column: str, columns: list[str], labels: list[str], number: int, draw: random.Random) -> str:
    if column in TEXT_COLUMNS:
        return " ".join(draw.choices(TEXT, k=draw.randint(3, 9)))
    if column in ("label", "Quality", "score", "is_duplicate", "gold_label"):
        return labels[number % len(labels)]
    return str(number)


def everything(folder: Path) -> Path:
    """Write what all tasks on files want into a data folder and return it."""
    for write in (cifar10, ptb, glue):
        write(folder)
    return folder
