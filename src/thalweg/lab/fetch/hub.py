"""What the Hub has, by Hugging Face's own libraries."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.lab.errors import UserError
from thalweg.lab.untyped import needed

WHO = "thalweg fetch"
Row = Mapping[str, Any]
Splits = Sequence[Iterable[Row]]
"""Training rows, then those of the other split if there is one."""


def load(name: str, config: str | None, splits: Sequence[str]) -> Splits:
    """Load splits of a data set, from the library's cache or the network.

    Raises:
        UserError: the library is not installed, or the data set cannot be had.
    """
    datasets = needed("datasets", WHO, "hub")
    try:
        return [datasets.load_dataset(name, config, split=split) for split in splits]
    except Exception as error:  # the library raises whatever its parts do: HTTP, disk, parsing
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"the data set {name} of the Hub cannot be loaded: {said[0]}") from error


def vocabulary(path: Path) -> None:
    """Write the WordPieces of bert-base-uncased, unless they are there.

    Raises:
        UserError: the library is not installed, or the file cannot be had.
    """
    if path.exists():
        return
    hub = needed("huggingface_hub", WHO, "hub")
    try:
        found = hub.hf_hub_download("google-bert/bert-base-uncased", "vocab.txt")
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"vocab.txt of google-bert/bert-base-uncased cannot be loaded: {said[0]}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found, path)
