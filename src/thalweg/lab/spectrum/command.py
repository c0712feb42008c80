"""The command line of `thalweg spectrum`."""

import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from thalweg.lab.options import Data, Json, Quiet, Size, check_output, console, number, print_json, real
from thalweg.lab.plain import plain
from thalweg.lab.spectrum.page import as_data, write_spectrum
from thalweg.lab.spectrum.record import Request
from thalweg.lab.spectrum.run import Watched
from thalweg.lab.spectrum.show import show_summary, watch


def command(
    task: Annotated[str, typer.Argument(help="A task of `thalweg list tasks`.")],
    optimizer: Annotated[
        str, typer.Option("-o", "--optimizer", metavar="OPT", help="One of `thalweg list optimizers`.")
    ] = "sgd",
    lr: Annotated[
        float | None,
        real("--lr", "Learning rate; the middle of the optimizer's range if not given; its end if a ceiling."),
    ] = None,
    steps: Annotated[int | None, number("--steps", "Training steps; the task's budget if not given.")] = None,
    every: Annotated[int | None, number("--every", "Steps between probes; about 30 probes if not given.")] = None,
    k: Annotated[int, number("-k", "Largest eigenvalues to follow.")] = 5,
    seed: Annotated[int, number("--seed", "Of initialization and batches.")] = 0,
    data: Data = None,
    preset: Size = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="The page; spectrum-TASK-OPT.html if not given.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a task; show sharpness against the stability threshold, top eigenvalues, density and layers.

    The learning rate is constant. Ctrl-C ends the training; the page then shows what there is.
    """
    request = Request.of(task, optimizer, lr, steps, every, k, seed, preset)
    default = Path(f"spectrum-{request.task.name}-{request.entry.name}.html")
    page = check_output("--output", output or default, ".html")
    torch.set_num_threads(1)  # the networks are too small for more
    shown = console(as_json, quiet)
    watched = Watched(request)
    try:
        with watch(shown, request, quiet or as_json) as tell:
            watched.run(tell)
    except KeyboardInterrupt:
        pass  # the recording says that it stopped
    recording = watched.recording
    if not recording.probes:
        print("Stopped before the first probe: there is nothing to show.", file=sys.stderr)
        raise typer.Exit(130)
    write_spectrum(page, recording)
    show_summary(shown, recording)
    shown.print(f"Page: {page}", soft_wrap=True)
    if as_json:
        print_json(plain({"page": str(page), **as_data(recording)}))
    if recording.state == "stopped":
        raise typer.Exit(130)
