"""Data folders in the layout of real ones, made by hand: a few rows each."""

import gzip
import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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


def squad(folder: Path) -> Path:
    """Write SQuAD's two files, the second packed, into a data folder that has the WordPieces."""
    own = folder / "squad"
    own.mkdir(parents=True)
    draw = random.Random(0)
    paragraphs = {name: [_paragraph(draw, f"{name}{n}") for n in range(12)] for name in ("train", "dev")}
    texts = {
        name: json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs[name]}]})
        for name in paragraphs
    }
    (own / "train-v1.1.json").write_text(texts["train"])
    (own / "dev-v1.1.json.gz").write_bytes(gzip.compress(texts["dev"].encode()))
    return own


def _paragraph(draw: random.Random, name: str) -> dict[str, Any]:
    words = draw.choices(TEXT, k=200)
    context = " ".join(words)
    questions: list[dict[str, Any]] = []
    for number in range(4):
        first = draw.randrange(190)
        answer = " ".join(words[first : first + 1 + number])
        start = len(" ".join(words[:first])) + (first > 0)
        answers = [{"text": answer, "answer_start": start}, {"text": words[0], "answer_start": 0}]
        questions.append({"id": f"{name}-{number}", "question": " ".join(draw.choices(TEXT, k=5)), "answers": answers})
    return {"context": context, "qas": questions}


def images(folder: Path, train: int = 20, val: int = 6) -> Path:
    """Write a tree of two classes in JPEG, of many sizes, some grey."""
    own = folder / "imagenet"
    draw = np.random.default_rng(0)
    for split, count in {"train": train, "val": val}.items():
        for label, name in enumerate(("n01", "n02")):
            (own / split / name).mkdir(parents=True)
            for number in range(count):
                size = (int(draw.integers(40, 160)), int(draw.integers(40, 160)))
                pixels = draw.integers(0, 128, (*size, 3)) + 100 * label
                image = Image.fromarray(pixels.astype(np.uint8)).convert("L" if number % 5 == 0 else "RGB")
                image.save(own / split / name / f"{number}.JPEG")
    return own


def idx(folder: Path, name: str = "MNIST", rows: int = 80, packed: bool = True) -> Path:
    """Write four idx files, as torchvision lays them out, into a data folder."""
    own = folder / name / "raw"
    own.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for part in ("train", "t10k"):
        write_idx(own / f"{part}-images-idx3-ubyte", draw.integers(0, 256, (rows, 28, 28)), packed)
        write_idx(own / f"{part}-labels-idx1-ubyte", draw.permutation(rows) % 10, packed)
    return own


def write_idx(path: Path, numbers: Any, packed: bool = False) -> None:
    head = bytes((0, 0, 8, numbers.ndim)) + b"".join(size.to_bytes(4) for size in numbers.shape)
    content = head + numbers.astype(np.uint8).tobytes()
    (path.with_name(f"{path.name}.gz") if packed else path).write_bytes(gzip.compress(content) if packed else content)


def text(folder: Path) -> Path:
    """Write a text, and byte pairs of single bytes with two merges, into a data folder."""
    draw = random.Random(0)
    own = folder / "tinyshakespeare"
    own.mkdir(parents=True)
    (own / "input.txt").write_text("".join(draw.choices("the \n\u00e9", k=3000)), encoding="utf-8")
    pairs = folder / "gpt2_bpe"
    pairs.mkdir()
    alphabet = ["t", "h", "e", "\u0120", "\u010a", "\u00c3", "\u00a9", "th", "the"]  # GPT-2 writes space as \u0120
    (pairs / "encoder.json").write_text(json.dumps({piece: number for number, piece in enumerate(alphabet)}))
    (pairs / "vocab.bpe").write_text("#version: 0.2\nt h\nth e\n", encoding="utf-8")
    return own


def fashion(folder: Path) -> Path:
    """Write Fashion-MNIST's files, not packed."""
    return idx(folder, "FashionMNIST", packed=False)


def everything(folder: Path) -> Path:
    """Write what all tasks on files want into a data folder and return it."""
    for write in (cifar10, ptb, glue, squad, images, idx, fashion, text):
        write(folder)
    return folder
