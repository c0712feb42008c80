"""`thalweg merge`: several studies as one."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from thalweg.lab.errors import UserError
from thalweg.lab.growth import joined
from thalweg.lab.options import Json, console, print_json
from thalweg.lab.records import Result
from thalweg.lab.reproduce import command as again
from thalweg.lab.store import Store

MEASURED = ("state", "value", "loss", "test", "steps", "charged")
"""Of a result: what two runs of one configuration have in common, on whatever machine; seconds are not."""


def command(
    studies: Annotated[list[Path], typer.Argument(metavar="STUDY STUDY…", help="Folders of two or more studies.")],
    store: Annotated[Path, typer.Option("--store", help="Folder of the merged study: new, or empty.")],
    as_json: Json = False,
) -> None:
    """Merge studies of the same terms: their tasks, optimizers and seeds in one folder. The studies are left as they are.

    A run that several studies did must have come out the same in each.
    """
    merged = merge([Store.open(study) for study in studies], store)
    done, wanted = len(merged.finished()), merged.contract.runs
    if as_json:
        print_json({"study": str(store), "hash": merged.contract.hash, "runs": {"done": done, "total": wanted}})
        return
    console().print(f"Study {merged.contract.hash} in {store}: {done} of {wanted} runs.", soft_wrap=True)
    if done < wanted:
        console().print(f"Have the others done with:\n  {again(merged.contract, str(store))}", soft_wrap=True)


def merge(studies: list[Store], folder: Path) -> Store:
    """Write a folder with the runs of all studies; nothing is written if they do not fit.

    Raises:
        UserError: fewer than two studies, other terms, a run with two outcomes, or a folder that is not empty.
    """
    if len(studies) < 2:
        raise UserError("thalweg merge takes two studies or more.")
    contract = joined([study.contract for study in studies])
    origins: dict[str, tuple[Store, Result]] = {}
    for study in studies:
        for path, result in study.finished().items():
            first = origins.setdefault(path, (study, result))
            _require_equal(path, first, (study, result))
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--store {folder} is not empty; give a new or an empty folder.")
    merged = Store.create(folder, contract)
    for path, (study, _) in origins.items():
        shutil.copytree(study.folder / "runs" / path, merged.folder / "runs" / path)
    return merged


def _require_equal(path: str, one: tuple[Store, Result], other: tuple[Store, Result]) -> None:
    for field in MEASURED:
        here, there = getattr(one[1], field), getattr(other[1], field)
        if here != there:
            raise UserError(
                f"these studies cannot be merged: run {path} has {field} {here} in {one[0].folder} and {there} in"
                f" {other[0].folder}, so they were not done alike; compare their env.json."
            )
