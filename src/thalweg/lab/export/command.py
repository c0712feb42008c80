"""The command line of `thalweg export`."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from thalweg.lab.analysis import Analysis
from thalweg.lab.complete import one_of
from thalweg.lab.errors import UserError, check_name
from thalweg.lab.options import Json, Quiet, console, print_json
from thalweg.lab.store import Store
from thalweg.lab.untyped import needed


@dataclass(frozen=True)
class Form:
    """Something a study can be written as.

    Attributes:
        write: ``module:function`` in this folder, of the runs and a folder.
        module: the library that it takes, with the extra that brings it; none for CSV.
        adds: whether writing twice would hold every run twice, so that the folder has to be empty.
    """

    write: str
    module: str = ""
    extra: str = ""
    adds: bool = False


FORMS = {
    "csv": Form("tables:write_csv"),
    "parquet": Form("tables:write_parquet", "pyarrow", "export"),
    "tensorboard": Form("tensorboard:write", "tensorboardX", "export", adds=True),
    "wandb": Form("wandb:write", "wandb", "wandb", adds=True),
    "mlflow": Form("mlflow:write", "mlflow", "mlflow", adds=True),
}
"""What ``thalweg export --to`` takes."""


def command(
    study: Annotated[Path, typer.Argument(help="Folder of a study.", metavar="STUDY")],
    to: Annotated[str, typer.Option("--to", help=f"{', '.join(FORMS)}.", autocompletion=one_of(FORMS))],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder; STUDY/export/FORM if not given.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a study's finished runs and their curves for other programs. Nothing is sent anywhere.

    W&B works offline and MLflow in a file, unless WANDB_MODE or MLFLOW_TRACKING_URI say otherwise.
    """
    form = FORMS[check_name("--to", to, FORMS)]
    if form.module:
        needed(form.module, f"--to {to}", form.extra)
    runs = Analysis.of(Store.open(study)).runs
    if not runs:
        raise UserError(f"STUDY {study} has no finished run; there is nothing to export.")
    folder = _folder(output or study / "export" / to, form.adds)
    module, function = form.write.split(":")
    write: Callable[..., None] = getattr(import_module(f"{__package__}.{module}"), function)
    try:
        write(runs, folder)
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}.") from error
    console(as_json, quiet).print(f"{len(runs)} runs: {folder}", soft_wrap=True)
    if as_json:
        print_json({"runs": len(runs), "folder": str(folder)})


def _folder(folder: Path, empty: bool) -> Path:
    """Make the folder, or take it as it is.

    Raises:
        UserError: it cannot be made, or has to be empty and is not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if empty and any(folder.iterdir()):
            raise UserError(
                f"--output {folder} is not empty: runs would be there twice; give a new folder or empty it."
            )
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}.") from error
    return folder
