"""Draw what the exponential policy of DCAO does in training, beside the edge policy, and print what the runs ended with.

    python scripts/dcao_pictures.py docs/pictures

The set-up is that of docs/curvature.md, section Verify: 500 digits, tanh, squared error, full batch, float32.  The picture
is of seed 0, the table of the seeds 0, 1 and 2.  A few minutes on one thread.
"""

import math
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from drawing import BLUE, GREY, ORANGE, save
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from scipy.special import lambertw
from sklearn.datasets import load_digits
from torch import Tensor, nn

import thalweg
from thalweg.curvature import eigenpairs, hessian

STEPS, EVERY, SEEDS = 2000, 50, (0, 1, 2)
ALPHA = 0.1
EXPONENTIAL: dict[str, Any] = {"policy": "exponential", "alpha": ALPHA, "every": 25, "k": 2}


@dataclass(frozen=True, eq=False)
class Run:
    """A policy, the learning rate asked for, and what the loss is multiplied by; the learning rate is divided by it."""

    label: str
    lr: float
    options: dict[str, Any]
    scale: float = 1.0


COLUMNS: list[tuple[str, list[Run]]] = [
    ("exponential, η₀ = 0.7", [Run("exponential", 0.7, EXPONENTIAL)]),
    ("exponential, η₀ = 0.5", [Run("exponential", 0.5, EXPONENTIAL)]),
    ("exponential, loss × 10, η₀ = 0.05", [Run("exponential", 0.5, EXPONENTIAL, 10.0)]),
    ("edge, 0.5; and loss × 10, 0.05", [Run("edge", 0.5, {}), Run("edge", 0.5, {}, 10.0)]),
]
OTHERS = [
    Run("exponential", 2.0, EXPONENTIAL),
    Run("edge", 50.0, {}),
    Run("edge, threshold 2, margin 1", 0.5, {"threshold": 2.0, "margin": 1.0}),
    Run("gradient descent", 0.25, {"policy": "exponential", "alpha": 0.0, "every": STEPS, "k": 2}),
    Run("gradient descent", 0.5, {"policy": "exponential", "alpha": 0.0, "every": STEPS, "k": 2}),
]


def watched(run: Run, seed: int) -> dict[str, list[float]]:
    """Train, and return loss, learning rate and sharpness every 50 steps, in units of the loss before its scale."""
    torch.manual_seed(seed)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:500], dtype=torch.float32)
    x, y = (x - x.mean()) / x.std(), nn.functional.one_hot(torch.tensor(labels[:500]), 10).float()
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = thalweg.DCAO(model.parameters(), run.lr / run.scale, 0.0, **run.options)

    def loss_fn() -> Tensor:
        return run.scale * (model(x) - y).square().sum(1).mean() / 2

    seen: dict[str, list[float]] = {"step": [], "loss": [], "lr": [], "sharpness": []}
    for step in range(STEPS + 1):
        optimizer.zero_grad()
        loss = loss_fn()
        loss.backward()
        if not loss.isfinite():
            seen["loss"].append(math.inf)
            break
        sharpness = eigenpairs(hessian(loss_fn, model), tol=0.02).eigenvalues[0].item() if step % EVERY == 0 else None
        optimizer.step(loss_fn)
        if sharpness is not None:
            now = (step, loss.item() / run.scale, optimizer.history[-1].used * run.scale, sharpness / run.scale)
            for name, value in zip(seen, now, strict=True):
                seen[name].append(value)
    return seen


def draw(panels: list[Axes], run: Run, seen: dict[str, list[float]], style: str) -> None:
    """Loss, learning rate and sharpness of one run, below each other."""
    losses, rates, sharpness = panels
    losses.plot(seen["step"], seen["loss"], style, color=BLUE, linewidth=1.3)
    rates.plot(seen["step"], seen["lr"], style, color=BLUE, linewidth=1.3)
    sharpness.plot(seen["step"], [2 / lr for lr in seen["lr"]], style, color=ORANGE, linewidth=1.3, label="2/η")
    sharpness.plot(seen["step"], seen["sharpness"], style, color=BLUE, linewidth=1.3, label="sharpness")
    if run.options == EXPONENTIAL and run.scale == 1 and run.lr >= 2 * math.e * ALPHA:
        rest = -2 * ALPHA / lambertw(-2 * ALPHA / run.lr).real
        rates.axhline(rest, color=GREY, linestyle="--", linewidth=1.0, label=f"at rest: {rest:.3f}")
        rates.legend(loc="lower center", fontsize=8, frameon=False)


def print_line(run: Run, seeds: list[dict[str, list[float]]]) -> None:
    """A run's last values: median and extremes over the seeds."""
    print(f"| {run.label}, asked {run.lr:g}, loss × {run.scale:g} | ", end="")
    if diverged := sum(not math.isfinite(seen["loss"][-1]) for seen in seeds):
        print(f"diverged: {diverged} of {len(seeds)} |", flush=True)
        return
    last = {name: sorted(seen[name][-1] for seen in seeds) for name in ("loss", "lr", "sharpness")}
    last["ratio"] = sorted(seen["lr"][-1] * seen["sharpness"][-1] / 2 for seen in seeds)
    print(" | ".join(f"{name} {v[1]:.4g} [{v[0]:.4g}, {v[-1]:.4g}]" for name, v in last.items()), "|", flush=True)


def main(directory: Path) -> None:
    """Draw it into the directory."""
    mpl.rcParams.update({"svg.hashsalt": "thalweg", "svg.fonttype": "none", "font.family": "sans-serif"})
    warnings.filterwarnings("ignore", "DCAO: lr=.*resting point")
    _, grid = plt.subplots(3, len(COLUMNS), figsize=(11.5, 6.4), layout="constrained", sharex=True, sharey="row")
    first: dict[Run, dict[str, list[float]]] = {}
    for column, (title, runs) in enumerate(COLUMNS):
        panels: list[Axes] = list(grid[:, column])
        for run, style in zip(runs, ("-", ":"), strict=False):
            first[run] = watched(run, SEEDS[0])
            draw(panels, run, first[run], style)
        panels[0].set_title(title, fontsize=10)
        panels[-1].set_xlabel("step")
        for axes in panels:
            axes.set(yscale="log", xlim=(0, STEPS))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.spines[["top", "right"]].set_visible(False)
    for axes, label, limits in zip(grid[:, 0], ("loss", "η", "sharpness"), (None, (1e-2, 1), (3, 200)), strict=True):
        axes.set(ylabel=label, ylim=limits)
    grid[2, 0].legend(loc="upper right", fontsize=8, frameon=False, ncols=2)
    frozen = first[COLUMNS[2][1][0]]["lr"][-1]
    grid[1, 2].text(0.5, 0.08, f"η = {frozen:.1e}", transform=grid[1, 2].transAxes, ha="center", fontsize=9)
    save(directory / "exponential-policy.svg")
    for run in (*first, *OTHERS):
        begun = [first[run]] if run in first else [watched(run, SEEDS[0])]
        print_line(run, begun + [watched(run, seed) for seed in SEEDS[1:]])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))
