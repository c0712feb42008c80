"""What the pictures of the documentation have in common: colours, and files that are the same at every run."""

import io
import re
from pathlib import Path

import matplotlib.pyplot as plt

GREY, ORANGE, BLUE = "#5b616b", "#e07b00", "#1f5fbf"


def save(path: Path) -> None:
    """Write the current figure, its coordinates to a hundredth of a point, without a date."""
    svg = io.StringIO()
    plt.savefig(svg, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)
    plt.close()
    path.write_text(re.sub(r"<[^>]+>", _rounded, svg.getvalue()), encoding="utf-8")


def _rounded(tag: re.Match[str]) -> str:
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", tag[0])
