"""Draw the picture of the curvature monitor's page: sharpness rising to the threshold, for gradient descent and for Adam.

    python scripts/monitor_picture.py docs/pictures

The set-up is that of examples/curvature_monitor.py, full batch.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from drawing import BLUE, GREY, ORANGE, save
from matplotlib.ticker import NullFormatter
from sklearn.datasets import load_digits
from torch import Tensor, nn

import thalweg

RUNS: dict[str, tuple[str, dict[str, Any], int]] = {
    "gradient descent, η = 0.1": ("sgd", {"lr": 0.1}, 2000),
    "Adam, η = 0.001": ("adam", {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-7}, 2000),
}


def watched(name: str, options: dict[str, Any], steps: int) -> dict[str, list[float]]:
    """Train, and return what a monitor saw every 20 steps."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:500], dtype=torch.float32), torch.tensor(labels[:500])
    x = (x - x.mean()) / x.std()
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = thalweg.create(name, model.parameters(), **options)
    targets = nn.functional.one_hot(y, 10).float()

    def loss_fn() -> Tensor:
        return 0.5 * (model(x) - targets).square().sum(1).mean()

    monitor = thalweg.CurvatureMonitor(model, optimizer, loss_fn, every=20)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step()
        monitor.step()
    return monitor.to_dict()


def main(directory: Path) -> None:
    """Draw it into the directory."""
    mpl.rcParams.update({"svg.hashsalt": "thalweg", "svg.fonttype": "none", "font.family": "sans-serif"})
    _, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axes, (label, run) in zip(panels, RUNS.items(), strict=True):
        seen = watched(*run)
        axes.axhline(seen["threshold"][-1], color=GREY, linestyle="--", linewidth=1.0, label="threshold")
        axes.plot(seen["step"], seen["sharpness"], color=BLUE, linewidth=1.3, label="sharpness")
        axes.set(xlabel="step", title=label, ylim=(0, 1.5 * seen["threshold"][-1]))
        losses = axes.twinx()
        losses.plot(seen["step"], seen["loss"], color=ORANGE, linewidth=1.0)
        losses.set(yscale="log", ylabel="loss")
        losses.yaxis.label.set_color(ORANGE)
        losses.yaxis.set_minor_formatter(NullFormatter())
        axes.legend(loc="center right", fontsize=8, framealpha=0.9, edgecolor="none")
        for each in (axes, losses):
            each.spines["top"].set_visible(False)
    save(directory / "monitor.svg")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))
