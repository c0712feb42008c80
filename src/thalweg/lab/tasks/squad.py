"""SQuAD v1.1 (Rajpurkar et al. 2016, arXiv:1606.05250) from the user's JSON files: a BERT finds the answer in a paragraph.

A question and its paragraph are cut into windows that overlap; the answer is the best span of all windows of a question,
as characters of the paragraph. The test split is the dev part; validation is a fixed part of the training paragraphs.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from thalweg.lab.errors import UserError
from thalweg.lab.models.hugging_face import BertSize, bert_spans
from thalweg.lab.tasks.files import Layout, Preset, read_bytes
from thalweg.lab.tasks.spans import Reading, exact_match, f1
from thalweg.lab.tasks.task import Batch, FromFiles, Metric, Task, epochs, joined_hash, shuffled
from thalweg.lab.tasks.wordpiece import VOCABULARY, hash_weights, pack, pretrained, read_vocabulary, tokenizer

LAYOUT = Layout(
    what="SQuAD v1.1; also .json.gz, .rebuilt.json and .rebuilt.json.gz",
    folder="squad",
    files="{train-v1.1.json, dev-v1.1.json}",
    required=("train-v1.1", "dev-v1.1"),
    endings=(".json", ".json.gz", ".rebuilt.json", ".rebuilt.json.gz"),
)


class Size(NamedTuple):
    """What a preset decides; the numbers are of questions."""

    bert: BertSize
    stride: int
    """Tokens that a window of a paragraph has in common with the one before."""
    train: int
    validation: int
    test: int
    batch_size: int
    steps: int | None = None
    """None for `EPOCHS`."""


SIZES: dict[Preset, Size] = {
    "tiny": Size(
        BertSize(layers=2, width=64, heads=2, length=128),
        stride=32,
        train=8000,
        validation=200,
        test=500,
        batch_size=16,
        steps=600,
    ),
    "paper": Size(
        BertSize(layers=12, width=768, heads=12, length=384),
        stride=256,
        train=100_000,
        validation=5000,
        test=100_000,
        batch_size=32,
    ),
}
"""Of the paper preset: Devlin et al. 2018, arXiv:1810.04805, sect. 4.2, and the windows of its code: 384 tokens, 128 apart."""
EPOCHS = 3
LONGEST_QUESTION = 64
"""Tokens; what is longer is cut, as in BERT's code."""
PROBE_ROWS = 64
ROWS_AT_ONCE = 50


class Answer(BaseModel):
    """Where an answer stands."""

    text: str = Field(min_length=1)
    answer_start: int = Field(ge=0)


class Question(BaseModel):
    """A question with all answers that count."""

    id: str
    question: str = Field(min_length=1)
    answers: list[Answer] = Field(min_length=1)


class Paragraph(BaseModel):
    """A text and what is asked of it."""

    context: str = Field(min_length=1)
    qas: list[Question]


class Article(BaseModel):
    """Some paragraphs."""

    paragraphs: list[Paragraph]


class Squad(BaseModel):
    """A file."""

    data: list[Article] = Field(min_length=1)


class Asked(NamedTuple):
    """A question beside its paragraph."""

    question: str
    context: str
    answers: tuple[str, ...]
    start: int
    """Character at which the first answer begins."""


def read(path: Path) -> list[list[Asked]]:
    """Read the questions of each paragraph.

    Raises:
        UserError: the file is damaged or has another layout.
    """
    try:
        content = Squad.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(f"{path} is not {LAYOUT.what.partition(';')[0]}: {where}: {first['msg']}.") from None
    return [
        [
            Asked(asked.question, one.context, tuple(a.text for a in asked.answers), asked.answers[0].answer_start)
            for asked in one.qas
        ]
        for article in content.data
        for one in article.paragraphs
    ]


def task(preset: Preset, data: Path | None) -> Task:
    """Answer questions by a BERT; one of the user's own weights at the preset paper."""
    size = SIZES[preset]
    paragraphs, dev = map(read, LAYOUT.paths(data))
    vocabulary = read_vocabulary(data)
    start = pretrained(data) if preset == "paper" else None
    paragraphs = [paragraphs[number] for number in shuffled(len(paragraphs))]
    validation, rest = split(paragraphs, size.validation)
    train = [asked for paragraph in rest for asked in paragraph if well_placed(asked)][: size.train]
    test = [asked for number in shuffled(len(dev)) for asked in dev[number]][: size.test]
    if not train or not validation or not test:
        raise UserError(f"--data {data}: SQuAD has {len(train)} questions to train on, {len(test)} to test; too few.")
    reading = Reading()
    rows = windows(train, vocabulary, size, None)
    return Task(
        name="squad",
        summary=f"answer SQuAD v1.1 ({len(train)} of {sum(map(len, paragraphs))} training questions), {size.bert.layers}-layer"
        f" BERT of width {size.bert.width}, {'pretrained' if start else 'random'} weights, preset {preset}",
        build=lambda: bert_spans(size.bert, vocabulary, start),
        sample=epochs(*rows),
        loss=loss,
        metric=Metric("F1", "%", "max", margin=1.0, measure=reading.best_spans, sum_up=reading.mean(f1)),
        also=(
            Metric("exact match", "%", "max", margin=1.0, measure=reading.best_spans, sum_up=reading.mean(exact_match)),
        ),
        probe=(rows[0][:PROBE_ROWS], rows[1][:PROBE_ROWS]),
        validation=windows(validation, vocabulary, size, reading),
        test=windows(test, vocabulary, size, reading),
        batch_size=size.batch_size,
        budget=size.steps or EPOCHS * max(1, len(rows[0]) // size.batch_size),
        data_hash=joined_hash(
            hashlib.sha256(repr((train, validation, test, [*vocabulary])).encode()).hexdigest()[:16],
            hash_weights(start),
        ),
        preset=preset,
        rows_at_once=ROWS_AT_ONCE,
    )


def split(paragraphs: Sequence[list[Asked]], most: int) -> tuple[list[Asked], Sequence[list[Asked]]]:
    """Hold out paragraphs until there are enough questions, at most a tenth; return their questions, and the rest."""
    enough = min(most, max(1, sum(map(len, paragraphs)) // 10))
    held_out: list[Asked] = []
    for number, paragraph in enumerate(paragraphs):
        if len(held_out) >= enough:
            return held_out[:enough], paragraphs[number:]
        held_out += paragraph
    return held_out, []


def well_placed(asked: Asked) -> bool:
    """Whether the first answer stands where the file says; others cannot be learnt, and BERT's code leaves them out."""
    return asked.context.startswith(asked.answers[0], asked.start)


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of first and last token; logits (N, 2, T), targets (N, 3), whose third column is a window's number."""
    return F.cross_entropy(logits.transpose(1, 2), targets[:, :2])


def windows(questions: Sequence[Asked], vocabulary: dict[str, int], size: Size, reading: Reading | None) -> Batch:
    """Cut questions into windows: tokens and segments (N, 2, T); first and last token of the answer and number of the window.

    A window without the whole answer points to its first token, [CLS].  A `reading` is told of every window.
    """
    cut = tokenizer(vocabulary, size.bert.length)
    cut.enable_truncation(size.bert.length, stride=size.stride, strategy="only_second")
    pairs = zip(shortened([asked.question for asked in questions], vocabulary), questions, strict=True)
    encodings = cut.encode_batch([(question, asked.context) for question, asked in pairs])
    made: list[Any] = []
    targets: list[tuple[int, int, int]] = []
    for asked, encoding in zip(questions, encodings, strict=True):
        own = [encoding, *encoding.overflowing]
        numbers = reading.add(asked.context, asked.answers, map(characters, own)) if reading else [0] * len(own)
        made += own
        targets += [(*answer_tokens(asked, window), number) for window, number in zip(own, numbers, strict=True)]
    return pack(made), torch.tensor(targets)


def shortened(questions: list[str], vocabulary: dict[str, int]) -> list[str]:
    """Cut each question to its first `LONGEST_QUESTION` tokens."""
    pieces = tokenizer(vocabulary, LONGEST_QUESTION)
    ends = [max(end for _, end in encoding.offsets) for encoding in pieces.encode_batch(questions)]
    return [question[:end] for question, end in zip(questions, ends, strict=True)]


def characters(window: Any) -> list[tuple[int, int]]:
    """Begin and end in the paragraph of each token of a window; −1 for those of the question."""
    return [
        offset if sequence == 1 else (-1, -1)
        for offset, sequence in zip(window.offsets, window.sequence_ids, strict=True)
    ]


def answer_tokens(asked: Asked, window: Any) -> tuple[int, int]:
    """First and last token of the answer in a window; 0 and 0 where it is not all there."""
    begin, end = asked.start, asked.start + len(asked.answers[0])
    tokens = [(number, at) for number, at in enumerate(characters(window)) if at[0] >= 0]
    first = [number for number, (left, right) in tokens if left <= begin < right]
    last = [number for number, (left, right) in tokens if left < end <= right]
    return (first[0], last[0]) if first and last else (0, 0)


TASKS = {"squad": FromFiles("answer SQuAD v1.1, BERT", "F1 (%), max", (LAYOUT, VOCABULARY), task)}
