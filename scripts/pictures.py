"""Draw the trajectories of the documentation: one picture an optimizer, plain SGD and AdamW beside it, and an overview.

    python scripts/pictures.py docs/pictures

Every optimizer walks down Rosenbrock's curved valley at the learning rate, of 49 log-spaced ones, that stays lowest on
the way and never climbs above the start.  Everything is float64 and nothing random: pictures are the same at every run.
"""

import io
import re
import sys
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from torch import Tensor

import thalweg
from thalweg.control import Steered
from thalweg.core.optimizer import Optimizer
from thalweg.curvature import CountsCost

STEPS = 400
LEARNING_RATES = np.logspace(-4, 2, 49)
START = (-1.2, 1.0)
MINIMUM = (1.0, 1.0)
BOX = ((-1.6, 1.5), (-0.65, 1.65))

GREY, ORANGE, BLUE, GREEN = "#5b616b", "#e07b00", "#1f5fbf", "#2a9d5c"


# Label of an optimizer: its name and options in `thalweg.create`.
WALKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("sgd", {}),
    "momentum .9": ("sgd", {"momentum": 0.9}),
    "Nesterov .9": ("sgd", {"momentum": 0.9, "nesterov": "lookahead"}),
    "Adagrad": ("adagrad", {}),
    "Adadelta": ("adadelta", {}),
    "RMSprop": ("rmsprop", {}),
    "Adam": ("adam", {}),
    "AdamW": ("adamw", {}),
    "AdamW, cautious": ("adamw", {"cautious": True}),
    "NAdam": ("nadam", {}),
    "MARS": ("mars", {"optimize_1d": True}),
    "SAVEUS": ("saveus", {}),
    "ExMachina": ("exmachina", {}),
    "DOPE": ("dope", {}),
    "DOPE, tuned": ("dope", {"preset": "tuned"}),
    "LBFGS": ("lbfgs", {"max_iter": 1, "line_search_fn": "strong_wolfe"}),
    "NewtonCG": ("newton_cg", {}),
    "schedule-free AdamW": ("adamw_schedule_free", {}),
    "schedule-free SGD": ("sgd_schedule_free", {}),
    "Muon": ("muon", {"match": "keller"}),  # without decay
    "DCAO, momentum .9": ("dcao", {}),
    "HiDLR, momentum .9": ("hidlr", {}),
}
ALWAYS = ("SGD", "AdamW")
NATURAL = {"NewtonCG": (1.0,), "DCAO, momentum .9": (10.0,)}  # whose step has a length of its own, or its bound
SHAPES = {"Muon": (1, 2)}  # which takes matrices only
PICTURES = {
    "sgd": ("momentum .9", "Nesterov .9"),
    "adagrad": ("Adagrad",),
    "adadelta": ("Adadelta",),
    "rmsprop": ("RMSprop",),
    "adam": ("Adam",),
    "adamw": ("AdamW, cautious",),
    "nadam": ("NAdam",),
    "mars": ("MARS",),
    "saveus": ("SAVEUS",),
    "exmachina": ("ExMachina",),
    "dope": ("DOPE", "DOPE, tuned"),
    "lbfgs": ("LBFGS",),
    "newton_cg": ("NewtonCG",),
    "adamw_schedule_free": ("schedule-free AdamW",),
    "sgd_schedule_free": ("schedule-free SGD",),
    "muon": ("Muon",),
    "dcao": ("momentum .9", "DCAO, momentum .9"),
    "hidlr": ("momentum .9", "HiDLR, momentum .9"),
}
OVERVIEW = ("sgd", "adagrad", "rmsprop", "adadelta", "adam", "nadam")


def rosenbrock(p: Tensor) -> Tensor:
    """(1 − x)² + 100(y − x²)² (Rosenbrock 1960): a curved valley, its floor flat and its walls steep."""
    x, y = p if len(p) == 2 else p[0]
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


def walk(label: str, lr: float) -> np.ndarray | None:
    """The points evaluated in one run, (STEPS + 1, 2), or None if it ever climbs above the start.

    They are the parameters, or where an average is evaluated in their place, that average.
    """
    p = torch.tensor(START, dtype=torch.float64).reshape(SHAPES.get(label, 2)).requires_grad_()
    name, options = WALKERS[label]
    optimizer = thalweg.create(name, [p], lr=lr, **options)

    def loss() -> Tensor:
        return rosenbrock(p)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    points, ceiling = [START], rosenbrock(p).item()
    for _ in range(STEPS):
        if isinstance(optimizer, Steered):
            closure()
        optimizer.step(loss if isinstance(optimizer, CountsCost) else closure)
        with optimizer.evaluation() if isinstance(optimizer, Optimizer) else nullcontext():
            if not rosenbrock(p).item() <= ceiling:  # NaN compares false
                return None
            x, y = p.flatten().tolist()
        points.append((x, y))
    return np.array(points)


def height(points: np.ndarray) -> float:
    """How high a run went, as the mean of log f over its points: low for a run that is fast and does not leap about."""
    return rosenbrock(torch.from_numpy(points.T)).clamp(min=1e-12).log().mean().item()


@cache
def best(label: str) -> tuple[np.ndarray, float]:
    """The lowest run of all learning rates, and its learning rate."""
    runs = [(walk(label, float(lr)), float(lr)) for lr in NATURAL.get(label, LEARNING_RATES)]
    return min(((points, lr) for points, lr in runs if points is not None), key=lambda run: height(run[0]))


def draw(axes: Axes, labels: tuple[str, ...]) -> None:
    """The valley, plain SGD and AdamW, and the labelled optimizers over them."""
    x, y = np.meshgrid(np.linspace(*BOX[0], 60), np.linspace(*BOX[1], 60))
    z = rosenbrock(torch.from_numpy(np.stack([x, y]))).numpy()
    axes.contourf(x, y, z, levels=np.logspace(-1, 3.2, 10), norm=LogNorm(), cmap="Greys_r", alpha=0.25, extend="both")
    for label, colour in zip((*ALWAYS, *labels), (GREY, ORANGE, BLUE, GREEN), strict=False):
        points, lr = best(label)
        relation = "≤" if label.startswith("DCAO") else "="
        style = {"linewidth": 1.0} if label in ALWAYS else {"linewidth": 1.3, "marker": ".", "markersize": 3}
        axes.plot(*points.T, color=colour, label=f"{label}, η {relation} {lr:.2g}", **style)
        axes.plot(*points[-1], "o", color=colour, markersize=6, markeredgecolor="white", zorder=3)
    axes.plot(*START, "o", color="#333333", markersize=5)
    axes.plot(*MINIMUM, "*", color="#333333", markersize=11)
    axes.set(xlim=BOX[0], ylim=BOX[1], xticks=[], yticks=[])
    axes.legend(loc="lower center", fontsize=8, framealpha=0.9, edgecolor="none", ncols=2)
    for side in axes.spines.values():
        side.set_visible(False)


def save(path: Path) -> None:
    """Write the current figure, its coordinates to a hundredth of a point, without a date."""
    svg = io.StringIO()
    plt.savefig(svg, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)
    plt.close()
    path.write_text(re.sub(r"<[^>]+>", _rounded, svg.getvalue()), encoding="utf-8")


def _rounded(tag: re.Match[str]) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", tag[0])


def main(directory: Path) -> None:
    """Draw every picture into the directory."""
    mpl.rcParams.update({"svg.hashsalt": "thalweg", "svg.fonttype": "none", "font.family": "sans-serif"})
    directory.mkdir(parents=True, exist_ok=True)
    for name, labels in PICTURES.items():
        _, axes = plt.subplots(figsize=(6.4, 4.2))
        draw(axes, labels)
        save(directory / f"{name}.svg")
    _, panels = plt.subplots(2, 3, figsize=(12, 7.6), layout="constrained")
    for axes, name in zip(panels.flat, OVERVIEW, strict=True):
        draw(axes, PICTURES[name])
    save(directory / "overview.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))
