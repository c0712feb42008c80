"""The command line of `thalweg fetch`."""

from typing import Annotated

import typer

from thalweg.lab.complete import one_of
from thalweg.lab.errors import UserError, check_name
from thalweg.lab.fetch.hub import load, vocabulary
from thalweg.lab.fetch.sources import SOURCES
from thalweg.lab.options import Data, Json, console, print_json
from thalweg.lab.tasks.files import VARIABLE, data_folder
from thalweg.lab.tasks.wordpiece import VOCABULARY


def command(
    task: Annotated[str, typer.Argument(help=f"{', '.join(SOURCES)}.", autocompletion=one_of(SOURCES))],
    data: Data = None,
    hub: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another data set of the Hub, with the same columns.")
    ] = None,
    config: Annotated[str | None, typer.Option(metavar="NAME", help="Its configuration, if it has several.")] = None,
    as_json: Json = False,
) -> None:
    """Download a task's data set from the Hugging Face Hub, and write the files that the task reads into DIR.

    What is in the library's cache already is taken from there. Files that are there are never overwritten.
    """
    source, folder = SOURCES[check_name("task", task, SOURCES)], data_folder()
    if folder is None:
        raise UserError(f"--data is not given; it names the folder to write into: give --data DIR or set {VARIABLE}.")
    if source.hub is None and hub is None:
        raise UserError(f"--hub is not given; {task} is whatever text you name, such as {source.example}.")
    own = folder / source.folder
    present = [name for name in source.files if (own / name).exists()]
    if present:
        raise UserError(f"{own / present[0]} is there already; remove it to fetch it again. Nothing was changed.")
    name, part = (source.hub, source.config) if hub is None else (hub, config)
    splits = load(str(name), part, source.splits)
    try:
        own.mkdir(parents=True, exist_ok=True)
        source.write(splits, own)
        if source.reads_words:
            vocabulary(folder / VOCABULARY.folder / "vocab.txt")
    except OSError as error:
        raise UserError(f"--data {folder} cannot be written: {error.strerror}.") from error
    if as_json:
        print_json({"task": task, "hub": name, "config": part, "folder": str(own)})
    else:
        console().print(f"{task}: {own}. Now: thalweg compare {task} --data {folder}", soft_wrap=True)
