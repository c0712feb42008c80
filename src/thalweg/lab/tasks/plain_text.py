"""Any UTF-8 text of the user's: a GPT predicts its next character, or the next of GPT-2's byte pairs."""

import hashlib
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from thalweg.lab.errors import UserError
from thalweg.lab.models import GPT
from thalweg.lab.tasks.files import Layout, Preset, library, read_text
from thalweg.lab.tasks.task import FromFiles, Task
from thalweg.lab.tasks.text import encode, language_task, numbered


class AnyText(Layout):
    """A text of any name, if it is the only one of its folder."""

    def file(self, folder: Path, name: str) -> Path | None:
        """Return the file of the name, else the only ``.txt``; None if there is none, or more than one."""
        texts = sorted(folder.glob("*.txt"))
        return super().file(folder, name) or (texts[0] if len(texts) == 1 else None)


class BytePairs(Layout):
    """Files that have one name at OpenAI and another at Hugging Face."""

    def file(self, folder: Path, name: str) -> Path | None:
        """Return the file of either name."""
        return super().file(folder, name) or super().file(folder, OTHER_NAMES[name])


OTHER_NAMES = {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}
TEXT = AnyText(
    what="any UTF-8 text; or the only .txt of DIR",
    folder="tinyshakespeare",
    files="input.txt",
    required=("input.txt",),
)
BYTE_PAIRS = BytePairs(
    what="GPT-2's byte pairs; also named vocab.json and merges.txt",
    folder="gpt2_bpe",
    files="{encoder.json, vocab.bpe}",
    required=("encoder.json", "vocab.bpe"),
)
HELD_OUT = 20
"""Validation is the last but one, test the last of so many parts of the text."""
ROWS_AT_ONCE = 50


class Size(NamedTuple):
    """What a preset decides."""

    layers: int
    heads: int
    width: int
    context: int
    batch_size: int
    budget: int
    windows: int
    """Of each held-out split."""


SIZES: dict[Preset, Size] = {
    "tiny": Size(layers=2, heads=2, width=64, context=64, batch_size=16, budget=400, windows=100),
    "paper": Size(layers=6, heads=6, width=384, context=256, batch_size=64, budget=5000, windows=1000),
}
"""Of the paper preset: the character model of Karpathy's nanoGPT, without its dropout."""
BYTE_PAIR_SIZES: dict[Preset, Size] = {
    "tiny": SIZES["tiny"]._replace(context=32, batch_size=8),  # each token has thousands of outputs
    "paper": SIZES["paper"],
}


def character_task(preset: Preset, data: Path | None) -> Task:
    """Predict the next character."""
    path, text = read(data)
    alphabet = numbered(text)
    return _task(
        "text", path, "character", "nats/char", encode(text, alphabet), len(alphabet), text, SIZES[preset], preset
    )


def byte_pair_task(preset: Preset, data: Path | None) -> Task:
    """Predict the next byte pair; those that the text has are numbered anew, so that no output stands for what never comes."""
    path, text = read(data)
    numbers = byte_pairs(text, data)
    anew = {number: place for place, number in enumerate(sorted(set(numbers)))}
    tokens = torch.tensor([anew[number] for number in numbers])
    return _task("text-bpe", path, "byte pair", "nats/token", tokens, len(anew), text, BYTE_PAIR_SIZES[preset], preset)


def read(data: Path | None) -> tuple[Path, str]:
    """Find and read the text.

    Raises:
        UserError: there is none, or it is no UTF-8.
    """
    path = TEXT.paths(data)[0]
    return path, read_text(path)


def byte_pairs(text: str, data: Path | None) -> list[int]:
    """Cut a text into GPT-2's byte pairs (Radford et al. 2019) and return their numbers.

    Raises:
        UserError: their two files are missing or damaged.
    """
    tokenizers = library("tokenizers")
    numbers, merges = BYTE_PAIRS.paths(data)
    try:
        pairs = tokenizers.ByteLevelBPETokenizer(str(numbers), str(merges))
    except Exception as error:  # the library has no type of its own for damaged files
        raise UserError(f"{numbers} and {merges} are not {BYTE_PAIRS.what}: {error}; get the files again.") from error
    return cast(list[int], pairs.encode(text).ids)


def _task(
    name: str, path: Path, what: str, unit: str, tokens: Tensor, kinds: int, text: str, size: Size, preset: Preset
) -> Task:
    held_out = len(tokens) // HELD_OUT
    if held_out <= size.context:
        fewest = HELD_OUT * (size.context + 1)
        raise UserError(f"{path} has {len(tokens)} tokens; preset {preset} takes {fewest} or more: give a longer text.")
    return language_task(
        (tokens[: -2 * held_out], tokens[-2 * held_out : -held_out], tokens[-held_out:]),
        size.context,
        size.windows,
        unit,
        name=name,
        summary=f"next {what} of {path.name} ({len(tokens)} tokens of {kinds} kinds), {size.layers}-layer GPT of width"
        f" {size.width}, preset {preset}",
        build=lambda: GPT(kinds, size.context, size.width, size.heads, size.layers),
        batch_size=size.batch_size,
        budget=size.budget,
        data_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
        preset=preset,
        rows_at_once=ROWS_AT_ONCE,
    )


TASKS = {
    "text": FromFiles("next character of any text, GPT", "cross-entropy (nats/char), min", (TEXT,), character_task),
    "text-bpe": FromFiles(
        "next byte pair of any text, GPT", "cross-entropy (nats/token), min", (TEXT, BYTE_PAIRS), byte_pair_task
    ),
}
