"""The command line of `thalweg landscape`."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from thalweg.lab.landscape.page import summary, write_landscape
from thalweg.lab.landscape.request import Request
from thalweg.lab.landscape.run import survey
from thalweg.lab.landscape.show import show_summary, watch
from thalweg.lab.options import Data, Json, Quiet, check_output, console, number, print_json
from thalweg.lab.plain import plain


def command(
    study: Annotated[Path, typer.Argument(help="Folder of a study.", metavar="STUDY")],
    task: Annotated[str | None, typer.Option("--task", help="A task of the study; its first if not given.")] = None,
    optimizers: Annotated[
        str | None, typer.Option("-o", "--optimizers", help="Names separated by commas; the study's if not given.")
    ] = None,
    plane: Annotated[
        str, typer.Option("--plane", help="pca: nearest to all runs; random: filter-normalized directions.")
    ] = "pca",
    seed: Annotated[int | None, number("--seed", "A final seed of the study; its first if not given.")] = None,
    resolution: Annotated[int, number("--resolution", "Points of the grid on its longer side.")] = 31,
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="The page; landscape-TASK.html if not given.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the winners of a study again; show their paths in one plane, over the loss in that plane."""
    request = Request.of(study, task, optimizers, plane, seed, resolution)
    page = check_output("--output", output or Path(f"landscape-{request.task.name}.html"), ".html")
    torch.set_num_threads(1)  # as the study's workers, whose results are to come out again
    shown = console(as_json, quiet)
    with watch(shown, quiet or as_json) as tell:
        found = survey(request, tell)
    write_landscape(page, found)
    show_summary(shown, found)
    shown.print(f"Page: {page}", soft_wrap=True)
    if as_json:
        print_json(plain({"page": str(page), **summary(found)}))
