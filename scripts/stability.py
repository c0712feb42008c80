"""Draw the edge of stability for the documentation, from what `thalweg verify` saved: a panel a run.

thalweg verify --only stability -o build/stability.json
python scripts/stability.py build/stability.json docs/pictures/edge-of-stability.svg
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from drawing import BLUE, ORANGE, save
from matplotlib.axes import Axes

COLUMNS = 3


def draw(axes: Axes, run: dict[str, Any]) -> None:
    """One run: the sharpness at every probe, and the threshold."""
    trace = run["trace"]
    axes.plot(trace["step"], trace["sharpness"], color=BLUE, linewidth=1.1, label="sharpness")
    axes.plot(trace["step"], trace["threshold"], "--", color=ORANGE, linewidth=1.3, label="threshold")
    axes.set_ylim(0, 1.45 * trace["threshold"][0])
    axes.set_xlim(0, trace["step"][-1])
    axes.set_title(run["name"], fontsize=10)
    axes.text(
        0.97, 0.06, f"{run['ours']:.3f} [{run['low']:.3f}, {run['high']:.3f}]", transform=axes.transAxes, ha="right",
        fontsize=8.5, color="#333333",
    )  # fmt: skip
    axes.tick_params(labelsize=8)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 4))
    axes.yaxis.get_offset_text().set_fontsize(8)
    axes.spines[["top", "right"]].set_visible(False)


def main(runs: Path, picture: Path) -> None:
    """Draw all runs of the group."""
    mpl.rcParams.update({"svg.hashsalt": "thalweg", "svg.fonttype": "none", "font.family": "sans-serif"})
    references = json.loads(runs.read_text(encoding="utf-8"))["groups"]["stability"]["references"]
    rows = -(-len(references) // COLUMNS)
    _, panels = plt.subplots(rows, COLUMNS, figsize=(11, 2.5 * rows), layout="constrained")
    for axes, run in zip(panels.flat, references, strict=True):
        draw(axes, run)
    panels.flat[0].legend(loc="upper left", fontsize=8, frameon=False, ncols=2)
    for axes in panels[-1]:
        axes.set_xlabel("step", fontsize=9)
    save(picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
