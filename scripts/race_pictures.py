"""Draw the race pictures of the documentation: one an optimizer's page, on two surfaces, AdamW and SGD beside it.

    python scripts/race_pictures.py docs/pictures

The races are those of `thalweg race`: the lab's entries, learning rates tuned on each surface. Nothing is random.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from thalweg.lab.race.drawing import colours
from thalweg.lab.race.gif import INK, PAPER, draw_surface, image_of, reduced
from thalweg.lab.race.run import Race, Track, race
from thalweg.lab.race.surfaces import SURFACES
from thalweg.lab.space import entry

ALWAYS = ("adamw", "sgd")
ON = ("rosenbrock", "beale")
BUDGET, TRIALS = 400, 15  # those of the command
PICTURES: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "nesterov"),
    "adagrad": ("adagrad",),
    "adadelta": ("adadelta",),
    "rmsprop": ("rmsprop",),
    "adam": ("adam",),
    "adamw": ("adamw_clip",),
    "nadam": ("nadam",),
    "adamw_schedule_free": ("adamw_schedule_free",),
    "sgd_schedule_free": ("sgd_schedule_free",),
    "muon": ("muon",),
    "mars": ("mars",),
    "saveus": ("saveus",),
    "dope": ("dope", "dope_tuned"),
    "exmachina": ("exmachina",),
    "lbfgs": ("lbfgs",),
    "newton_cg": ("newton_cg",),
    "dcao": ("momentum", "dcao"),
    "hidlr": ("hidlr",),
}
"""Name of a page to the entries on it; `mixed` is not here, for a point has nothing to mix."""


@cache
def best(surface: str, name: str) -> Track:
    """The tuned run of an optimizer."""
    return race(SURFACES[surface], [entry(name)], TRIALS, BUDGET, lambda track: None).tracks[0]


def draw(axes: Axes, found: Race) -> None:
    """A surface with its trails."""
    draw_surface(axes, found)
    for track in found.tracks:
        ink, label = colours(found)[track.optimizer], f"{track.optimizer}, lr {track.lr:.2g}"
        axes.plot(*track.points.T.numpy(), color=ink, linewidth=1.4, label=label, clip_on=True)
        axes.plot(*track.points[-1].tolist(), "o", color=ink, markersize=7, markeredgecolor=PAPER, zorder=4)
    axes.set_title(f"{found.surface.name}, {found.budget} gradients", fontsize=10, color=INK)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), fontsize=8.5, frameon=False, ncols=2, labelcolor=INK)


def picture(names: tuple[str, ...]) -> Any:
    """The image of some optimizers on the surfaces."""
    figure = Figure(figsize=(9.6, 4.6), dpi=100, facecolor=PAPER, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    races = [Race(SURFACES[one], BUDGET, TRIALS, [best(one, name) for name in names]) for one in ON]
    for axes, found in zip(figure.subplots(1, len(ON)), races, strict=True):
        draw(axes, found)
    return reduced([image_of(canvas)], list(colours(races[0]).values()))[0]


def main(directory: Path) -> None:
    """Draw every picture into the directory."""
    torch.set_num_threads(1)
    directory.mkdir(parents=True, exist_ok=True)
    for page, names in PICTURES.items():
        picture(tuple(dict.fromkeys([*ALWAYS, *names]))).save(directory / f"race-{page}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))
