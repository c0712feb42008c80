"""The command line of `thalweg race`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from thalweg.lab.comparison import split
from thalweg.lab.complete import one_of
from thalweg.lab.errors import UserError, check_range
from thalweg.lab.options import Json, Quiet, check_output, console, number, print_json
from thalweg.lab.plain import plain
from thalweg.lab.race.gif import write_gif
from thalweg.lab.race.page import summary, write_race
from thalweg.lab.race.run import Race, race
from thalweg.lab.race.show import show_summary, watch
from thalweg.lab.race.surfaces import SURFACES, surface_named
from thalweg.lab.space import entry

ALWAYS = ("adamw", "sgd")
"""Who is drawn beside everyone."""
WRITERS: dict[str, Callable[[Path, Race], Path]] = {".html": write_race, ".gif": write_gif}


def command(
    surface: Annotated[str, typer.Argument(help=f"{', '.join(SURFACES)}.", autocompletion=one_of(SURFACES))],
    optimizers: Annotated[
        str, typer.Option("-o", "--optimizers", help="Names separated by commas; AdamW and SGD are always drawn.")
    ] = "momentum,muon,dcao",
    steps: Annotated[
        int,
        number("--steps", "Gradient-equivalents each may use: steps, where a step takes one gradient."),
    ] = 400,
    trials: Annotated[int, number("--trials", "Learning rates each tries, evenly spread over its range.")] = 15,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", metavar="FILE", help="FILE.html or FILE.gif, repeatable; both if not given."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let optimizers run down a surface, each at the learning rate that is best for it there.

    The lab's own entries, ranges and accounting; everything is deterministic.
    """
    field = surface_named(surface)
    entries = [entry(name) for name in dict.fromkeys([*ALWAYS, *split(optimizers)])]
    budget = check_range("--steps", steps, 1, 20_000)
    tried = check_range("--trials", trials, 1, 1000)
    paths = [check_output("--output", path, *WRITERS) for path in output or _default(field.name)]
    if len(set(paths)) < len(paths):
        raise UserError(f"--output gives {paths[0]} twice.")
    torch.set_num_threads(1)  # a point is too small for more
    shown = console(as_json, quiet)
    with watch(shown, field, len(entries), quiet or as_json) as tell:
        found = race(field, entries, tried, budget, tell)
    show_summary(shown, found)
    for path in paths:
        shown.print(f"{WRITERS[path.suffix](path, found)}", soft_wrap=True)
    if as_json:
        print_json(plain({"files": [str(path) for path in paths], **summary(found)}))


def _default(surface: str) -> list[Path]:
    return [Path(f"race-{surface}{suffix}") for suffix in WRITERS]
