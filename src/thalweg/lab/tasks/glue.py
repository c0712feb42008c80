"""GLUE (Wang et al. 2018, arXiv:1804.07461) from the user's TSV files: sentences, or pairs, judged by a BERT.

One table says how the nine files differ; one reader reads them. The labels of GLUE's test parts are not public: the test
split is the dev part, and validation a fixed part of the training rows.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.lab.errors import UserError
from thalweg.lab.models.hugging_face import BertSize, bert_classifier
from thalweg.lab.tasks import scores
from thalweg.lab.tasks.files import Layout, Preset, read_text
from thalweg.lab.tasks.task import Batch, FromFiles, Metric, Task, epochs, hash_tensors, joined_hash, shuffled
from thalweg.lab.tasks.wordpiece import VOCABULARY, encode, hash_weights, pretrained, read_vocabulary

BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")


class Corpus(NamedTuple):
    """One task of GLUE: where its columns are, and what judges it."""

    folder: str
    what: str
    sentences: tuple[str, ...]
    """Columns of the text, or of the pair."""
    label: str
    """Column of the label."""
    classes: tuple[str, ...]
    """What the label may be; none if it is a number."""
    metric: Metric
    also: tuple[Metric, ...] = ()
    columns: tuple[str, ...] = ()
    """Of a file without a header line."""
    dev: str = "dev.tsv"
    drops_ragged: bool = False
    """Whether rows with another number of columns are left out: GLUE's own file has some."""

    @property
    def layout(self) -> Layout:
        """Where the files are expected."""
        return Layout(
            what=f"GLUE's {self.folder}",
            folder=f"glue/{self.folder}",
            files=f"{{train.tsv, {self.dev}}}",
            required=("train.tsv", self.dev),
            elsewhere=(self.folder,),
        )


CORPORA = {
    "sst2": Corpus("SST-2", "sentiment of a film review's phrase", ("sentence",), "label", BINARY, scores.ACCURACY),
    "cola": Corpus(
        "CoLA",
        "whether a sentence is grammatical",
        ("sentence",),
        "label",
        BINARY,
        scores.MATTHEWS,
        columns=("source", "label", "star", "sentence"),
    ),
    "mrpc": Corpus(
        "MRPC",
        "whether two sentences say the same",
        ("#1 String", "#2 String"),
        "Quality",
        BINARY,
        scores.F1,
        (scores.ACCURACY,),
    ),
    "stsb": Corpus(
        "STS-B",
        "how alike two sentences are, 0 to 5",
        ("sentence1", "sentence2"),
        "score",
        (),
        scores.SPEARMAN,
        (scores.PEARSON,),
    ),
    "qqp": Corpus(
        "QQP",
        "whether two questions ask the same",
        ("question1", "question2"),
        "is_duplicate",
        BINARY,
        scores.F1,
        (scores.ACCURACY,),
        drops_ragged=True,
    ),
    "mnli": Corpus(
        "MNLI",
        "what follows from a sentence, matched genres",
        ("sentence1", "sentence2"),
        "gold_label",
        ("entailment", "neutral", "contradiction"),
        scores.ACCURACY,
        dev="dev_matched.tsv",
    ),
    "qnli": Corpus(
        "QNLI", "whether a sentence answers a question", ("question", "sentence"), "label", ENTAILMENT, scores.ACCURACY
    ),
    "rte": Corpus(
        "RTE", "whether a sentence follows", ("sentence1", "sentence2"), "label", ENTAILMENT, scores.ACCURACY
    ),
    "wnli": Corpus(
        "WNLI", "whether a pronoun means that", ("sentence1", "sentence2"), "label", BINARY, scores.ACCURACY
    ),
}


class Size(NamedTuple):
    """What a preset decides."""

    bert: BertSize
    rows: float
    """Most training rows that are used."""
    held_out: int
    """Most validation rows, at most a tenth of the training rows."""
    batch_size: int = 32
    steps: int | None = None
    """None for `EPOCHS`."""


SIZES: dict[Preset, Size] = {
    "tiny": Size(BertSize(layers=2, width=64, heads=2, length=48), rows=20_000, held_out=500, steps=600),
    "paper": Size(BertSize(layers=12, width=768, heads=12, length=128), rows=math.inf, held_out=5000),
}
"""Of the paper preset: Devlin et al. 2018, arXiv:1810.04805, BERT base (sect. 3) and sect. 4.1: batches of 32, 3 epochs."""
EPOCHS = 3
PROBE_ROWS = 128
ROWS_AT_ONCE = 100
FEWEST = 10
"""Rows of a file, of which a tenth is held out."""
HIGHEST_SCORE = 5


def task(name: str, preset: Preset, data: Path | None) -> Task:
    """Classify a sentence or a pair, or give it a number, by a BERT; one of the user's own weights at the preset paper."""
    corpus, size = CORPORA[name], SIZES[preset]
    train, dev = (read(path, corpus) for path in corpus.layout.paths(data))
    vocabulary = read_vocabulary(data)
    start = pretrained(data) if preset == "paper" else None
    order = shuffled(len(train))
    held_out = min(size.held_out, len(train) // 10)
    used = min(len(train) - held_out, size.rows)
    chosen = [train[row] for row in order[: int(held_out + used)]]
    inputs, targets = packed(chosen, corpus, vocabulary, size.bert.length)
    test = packed(dev, corpus, vocabulary, size.bert.length)
    rows = inputs[held_out:], targets[held_out:]
    return Task(
        name=name,
        summary=f"{corpus.what} (GLUE {corpus.folder}, {len(rows[0])} of {len(train)} training rows), {size.bert.layers}-layer"
        f" BERT of width {size.bert.width}, {'pretrained' if start else 'random'} weights, preset {preset}",
        build=lambda: bert_classifier(size.bert, vocabulary, max(1, len(corpus.classes)), start),
        sample=epochs(*rows),
        loss=F.cross_entropy if corpus.classes else squared_error,
        metric=corpus.metric,
        also=corpus.also,
        probe=(rows[0][:PROBE_ROWS], rows[1][:PROBE_ROWS]),
        validation=(inputs[:held_out], targets[:held_out]),
        test=test,
        batch_size=size.batch_size,
        budget=size.steps or EPOCHS * max(1, len(rows[0]) // size.batch_size),
        data_hash=joined_hash(hash_tensors(inputs, targets, *test), hash_weights(start)),
        preset=preset,
        rows_at_once=ROWS_AT_ONCE,
    )


Row = tuple[str | tuple[str, ...], str]
"""A text or a pair of them, and the label as the file has it."""


def read(path: Path, corpus: Corpus) -> list[Row]:
    """Read the rows of a file: separated by tabs, nothing quoted, columns found by their names.

    Raises:
        UserError: it has no rows, lacks a column, or a row has another number of columns or another label.
    """
    lines = [line.rstrip("\r").split("\t") for line in read_text(path).split("\n")]
    if lines[-1] == [""]:
        lines.pop()
    columns = list(corpus.columns) or (lines.pop(0) if lines else [])
    missing = [name for name in (*corpus.sentences, corpus.label) if name not in columns]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}, its first line is {columns[:12]}; {expected(corpus)}.")
    first = 1 if corpus.columns else 2
    rows: list[Row] = []
    for number, line in enumerate(lines, first):
        if len(line) == len(columns):
            found = dict(zip(columns, line, strict=True))
            check_label(found[corpus.label], corpus, f"{path} line {number}")
            texts = [found[name] for name in corpus.sentences]
            rows.append((tuple(texts) if len(texts) > 1 else texts[0], found[corpus.label]))
        elif not corpus.drops_ragged:
            raise UserError(f"{path} line {number} has {len(line)} columns, not {len(columns)}; {expected(corpus)}.")
    if len(rows) < FEWEST:
        raise UserError(f"{path} has {len(rows)} rows, {FEWEST} are the fewest; {expected(corpus)}.")
    return rows


def check_label(label: str, corpus: Corpus, where: str) -> None:
    """Check a label.

    Raises:
        UserError: it is none of the classes, or no number from 0 to 5.
    """
    if corpus.classes:
        if label not in corpus.classes:
            raise UserError(f"{where} has the label {label!r}; it must be {' or '.join(corpus.classes)}.")
        return
    try:
        inside = 0 <= float(label) <= HIGHEST_SCORE
    except ValueError:
        inside = False
    if not inside:
        raise UserError(f"{where} has the label {label!r}; it must be a number from 0 to {HIGHEST_SCORE}.")


def expected(corpus: Corpus) -> str:
    """Say what a file should look like."""
    columns = ", ".join(corpus.columns or (*corpus.sentences, corpus.label))
    lines = f"columns {columns} and no header line" if corpus.columns else f"a header line with {columns}"
    return f"expected {corpus.layout.what} as GLUE publishes it: separated by tabs, {lines}"


def packed(rows: Sequence[Row], corpus: Corpus, vocabulary: dict[str, int], length: int) -> Batch:
    """Turn rows into tokens and segments (N, 2, length) and their labels: numbers of classes, or scores."""
    labels = [corpus.classes.index(label) if corpus.classes else float(label) for _, label in rows]
    return encode([texts for texts, _ in rows], vocabulary, length), torch.tensor(labels)


def squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of a score from the label, mean over the rows."""
    return F.mse_loss(outputs.squeeze(-1), labels)


TASKS = {
    name: FromFiles(
        f"{corpus.what} (GLUE {corpus.folder}), BERT",
        corpus.metric.said,
        (corpus.layout, VOCABULARY),
        partial(task, name),
    )
    for name, corpus in CORPORA.items()
}
