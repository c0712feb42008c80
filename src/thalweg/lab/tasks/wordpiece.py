"""Texts as BERT reads them: WordPieces of a local vocab.txt, packed with their segments into one tensor."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.lab.errors import UserError
from thalweg.lab.tasks.files import Layout, library, read_text

VOCABULARY = Layout(
    what="WordPieces of bert-base-uncased, one a line",
    folder="bert_vocab",
    files="vocab.txt",
    required=("vocab.txt",),
    elsewhere=("bert-base-uncased",),
)
PRETRAINED = Layout(
    what="BERT base, uncased, as transformers saves it",
    folder="bert-base-uncased",
    files="{config.json, model.safetensors, vocab.txt}",
    required=("config.json", "model.safetensors", "vocab.txt"),
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
AT_ONCE = 10_000
"""Texts whose encodings, with all that they say of each token, are in memory at a time."""


def pretrained(data: Path | None) -> Path | None:
    """Return the folder of weights to begin from; None if the data folder has none."""
    folder = data / PRETRAINED.folder if data else None
    return folder if folder and all((folder / name).is_file() for name in PRETRAINED.required) else None


def hash_weights(folder: Path | None) -> str:
    """Hash the weights of a pretrained folder; empty without one."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:16] if folder else ""


def read_vocabulary(data: Path | None) -> dict[str, int]:
    """Read the numbers of the WordPieces; those of the pretrained folder if there is one.

    Raises:
        UserError: the file is missing, or lacks what every sequence has.
    """
    folder = pretrained(data)
    path = folder / "vocab.txt" if folder else VOCABULARY.paths(data)[0]
    numbers = {piece: number for number, piece in enumerate(read_text(path).splitlines())}
    missing = [piece for piece in SPECIAL if piece not in numbers]
    if missing:
        raise UserError(f"{path} has no {', no '.join(missing)}; expected {VOCABULARY.what}: get the file again.")
    return numbers


def tokenizer(vocabulary: dict[str, int], length: int) -> Any:
    """Make the uncased tokenizer of BERT, which fills or cuts every text to `length` tokens."""
    made = library("tokenizers").BertWordPieceTokenizer(vocabulary, lowercase=True)
    made.enable_padding(length=length, pad_id=vocabulary["[PAD]"])
    made.enable_truncation(length)
    return made


def encode(texts: Sequence[str | tuple[str, ...]], vocabulary: dict[str, int], length: int) -> Tensor:
    """Turn texts, or pairs of them, into tokens and segments, (N, 2, length); a pair is cut where it is longest."""
    pieces = tokenizer(vocabulary, length)
    parts = [pack(pieces.encode_batch(list(texts[start : start + AT_ONCE]))) for start in range(0, len(texts), AT_ONCE)]
    return torch.cat(parts)


def pack(encodings: Sequence[Any]) -> Tensor:
    """Turn encodings of one length into tokens and segments, (N, 2, T)."""
    rows = [(encoding.ids, encoding.type_ids) for encoding in encodings]
    return torch.tensor(rows, dtype=torch.int32)
