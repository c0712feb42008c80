"""Draw the trajectories of the documentation: one picture an optimizer, plain SGD and AdamW beside it, and an overview.

    python scripts/pictures.py docs/pictures

Every optimizer walks down Rosenbrock's curved valley at the learning rate, of 41 log-spaced ones, that ends lowest
after the same number of steps.  The numbers are float64 and nothing is random: every run draws the same pictures.
"""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

import thalweg

STEPS = 150
LEARNING_RATES = np.logspace(-5, 1, 41)
START = (-1.2, 1.0)
MINIMUM = (1.0, 1.0)
BOX = ((-1.75, 1.75), (-0.75, 2.1))

GREY, ORANGE, BLUE, GREEN, PURPLE = "#8a8f98", "#e07b00", "#1f5fbf", "#2a9d5c", "#8e44ad"


@dataclass(frozen=True)
class Walker:
    """An optimizer to draw: its label, its name and options in `thalweg.create`."""

    label: str
    name: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])


SGD = Walker("SGD", "sgd")
ADAMW = Walker("AdamW", "adamw")
MOMENTUM = Walker("momentum .9", "sgd", {"momentum": 0.9})
LOOKAHEAD = Walker("Nesterov .9", "sgd", {"momentum": 0.9, "nesterov": "lookahead"})

PICTURES: dict[str, tuple[Walker, ...]] = {
    "sgd": (MOMENTUM, LOOKAHEAD),
    "adagrad": (Walker("Adagrad", "adagrad"),),
    "adadelta": (Walker("Adadelta", "adadelta"),),
    "rmsprop": (Walker("RMSprop", "rmsprop"),),
    "adam": (Walker("Adam", "adam"),),
    "adamw": (Walker("AdamW, cautious", "adamw", {"cautious": True}),),
    "nadam": (Walker("NAdam", "nadam"),),
    "lbfgs": (Walker("LBFGS", "lbfgs", {"max_iter": 1, "line_search_fn": "strong_wolfe"}),),
}


def rosenbrock(p: Tensor) -> Tensor:
    """(1 − x)² + 100(y − x²)² (Rosenbrock 1960): a curved valley, its floor flat and its walls steep."""
    x, y = p
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


def walk(walker: Walker, lr: float) -> np.ndarray:
    """The points of one run, (STEPS + 1, 2); it ends early where it leaves the finite numbers."""
    p = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = thalweg.create(walker.name, [p], lr=lr, **walker.options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = rosenbrock(p)
        loss.backward()
        return loss

    points = [START]
    for _ in range(STEPS):
        optimizer.step(closure)
        if not torch.isfinite(p).all() or p.abs().max() > 1e3:
            break
        x, y = p.tolist()
        points.append((x, y))
    return np.array(points)


def height(points: np.ndarray) -> float:
    """Where a run ended; infinity for one that did not last."""
    return rosenbrock(torch.from_numpy(points[-1])).item() if len(points) == STEPS + 1 else math.inf


def best(walker: Walker) -> tuple[np.ndarray, float]:
    """The run that ends lowest, and its learning rate."""
    runs = [(walk(walker, float(lr)), float(lr)) for lr in LEARNING_RATES]
    return min(runs, key=lambda run: height(run[0]))


def draw(axes: Axes, walkers: tuple[Walker, ...]) -> None:
    """The valley, plain SGD and AdamW, and the walkers over them."""
    x, y = np.meshgrid(np.linspace(*BOX[0], 120), np.linspace(*BOX[1], 120))
    z = rosenbrock(torch.from_numpy(np.stack([x, y]))).numpy()
    axes.contour(x, y, np.log(z + 1e-3), levels=14, colors="#d5dae1", linewidths=0.7)
    for walker, colour in zip((SGD, ADAMW, *walkers), (GREY, ORANGE, BLUE, GREEN, PURPLE), strict=False):
        points, lr = best(walker)
        label = f"{walker.label}, η = {lr:.2g}"
        axes.plot(*points.T, color=colour, linewidth=1.4, marker=".", markersize=3.5, label=label)
    axes.plot(*START, "o", color="#333333", markersize=5)
    axes.plot(*MINIMUM, "*", color="#333333", markersize=11)
    axes.set(xlim=BOX[0], ylim=BOX[1], xticks=[], yticks=[])
    axes.legend(loc="lower center", fontsize=8, framealpha=0.9, edgecolor="none", ncols=2)
    for side in axes.spines.values():
        side.set_visible(False)


def save(path: Path) -> None:
    """Write the current figure without anything that differs from run to run."""
    plt.savefig(path, metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)
    plt.close()


def main(directory: Path) -> None:
    """Draw every picture into the directory."""
    mpl.rcParams.update({"svg.hashsalt": "thalweg", "svg.fonttype": "none", "font.family": "sans-serif"})
    directory.mkdir(parents=True, exist_ok=True)
    for name, walkers in PICTURES.items():
        _, axes = plt.subplots(figsize=(6.4, 4.2))
        draw(axes, walkers)
        save(directory / f"{name}.svg")
    _, panels = plt.subplots(2, 3, figsize=(12, 7.6), layout="constrained")
    for axes, name in zip(panels.flat, ("sgd", "adagrad", "rmsprop", "adadelta", "adam", "nadam"), strict=True):
        draw(axes, PICTURES[name])
    save(directory / "overview.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))
