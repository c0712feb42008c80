"""Penn Treebank from the user's files, in Mikolov's three text files: a word LSTM and a character GPT."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from thalweg.lab.errors import UserError
from thalweg.lab.models import GPT, WordLSTM
from thalweg.lab.tasks.files import Layout, Preset, read_text
from thalweg.lab.tasks.task import FromFiles, Task, hash_tensors
from thalweg.lab.tasks.text import encode, language_task, numbered

LAYOUT = Layout(
    what="Penn Treebank, one sentence a line",
    folder="ptb",
    files="{ptb.train.txt, ptb.valid.txt, ptb.test.txt}",
    required=("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
)
ROWS_AT_ONCE = 100
"""Whose logits of 20 words each over 10,000 fill 80 MB."""


class Size(NamedTuple):
    """What a preset decides; `windows` of each held-out split are read."""

    layers: int
    width: int
    context: int
    batch_size: int
    budget: int
    windows: int
    heads: int = 1
    """Of a GPT."""


LSTM_SIZES: dict[Preset, Size] = {
    "tiny": Size(layers=1, width=64, context=20, batch_size=20, budget=300, windows=100),
    "paper": Size(layers=2, width=200, context=20, batch_size=20, budget=30_000, windows=3000),
}
"""Of the paper preset: the small model of Zaremba et al. 2014, arXiv:1409.2329, sect. 4.1, for its 13 epochs."""

GPT_SIZES: dict[Preset, Size] = {
    "tiny": Size(layers=2, width=64, context=64, batch_size=16, budget=300, windows=100, heads=2),
    "paper": Size(layers=6, width=384, context=256, batch_size=64, budget=5000, windows=1000, heads=6),
}
"""Of the paper preset: the character model of Karpathy's nanoGPT, without its dropout."""


def lstm_task(preset: Preset, data: Path | None) -> Task:
    """Predict the next word by an LSTM.

    Windows are independent, and the state is zero at the beginning of each: the loss is higher than with a state that is
    carried through the text from batch to batch.
    """
    size = LSTM_SIZES[preset]
    splits = [text.replace("\n", " <eos> ").split() for text in read(data)]
    return _task(
        "ptb",
        f"next word of Penn Treebank, {size.layers}-layer LSTM of width {size.width}, perplexity = exp(nats/word)",
        "nats/word",
        splits,
        lambda vocabulary: WordLSTM(vocabulary, size.width, size.layers),
        size,
        preset,
    )


def gpt_task(preset: Preset, data: Path | None) -> Task:
    """Predict the next character by a GPT."""
    size = GPT_SIZES[preset]
    return _task(
        "ptb-gpt",
        f"next character of Penn Treebank, {size.layers}-layer GPT of width {size.width}",
        "nats/char",
        read(data),
        lambda vocabulary: GPT(vocabulary, size.context, size.width, size.heads, size.layers),
        size,
        preset,
    )


def _task(
    name: str,
    summary: str,
    unit: str,
    splits: Sequence[Sequence[str]],
    model: Callable[[int], nn.Module],
    size: Size,
    preset: Preset,
) -> Task:
    """Make the task of three splits, each a row of symbols; the vocabulary is that of the first."""
    numbers = numbered(splits[0])
    tokens = [_encoded(LAYOUT.required[number], split, numbers, size.context) for number, split in enumerate(splits)]
    return language_task(
        tokens,
        size.context,
        size.windows,
        unit,
        name=name,
        summary=f"{summary}, preset {preset}",
        build=lambda: model(len(numbers)),
        batch_size=size.batch_size,
        budget=size.budget,
        data_hash=hash_tensors(*tokens),
        preset=preset,
        rows_at_once=ROWS_AT_ONCE,
    )


def read(data: Path | None) -> list[str]:
    """Read training, validation and test text.

    Raises:
        UserError: a file is missing or no text.
    """
    return [read_text(path) for path in LAYOUT.paths(data)]


def _encoded(file: str, symbols: Sequence[str], numbers: dict[str, int], context: int) -> Tensor:
    if len(symbols) <= context:
        raise UserError(f"{file} has {len(symbols)} symbols; a window takes {context + 1}: get the file again.")
    unknown = set(symbols) - numbers.keys()
    if unknown:
        raise UserError(
            f"{file} has {len(unknown)} symbols that {LAYOUT.required[0]} lacks, such as {min(unknown)!r}: take the three"
            " files of one split."
        )
    return encode(symbols, numbers)


TASKS = {
    "ptb": FromFiles("next word of Penn Treebank, LSTM", "cross-entropy (nats/word), min", (LAYOUT,), lstm_task),
    "ptb-gpt": FromFiles("next character of Penn Treebank, GPT", "cross-entropy (nats/char), min", (LAYOUT,), gpt_task),
}
