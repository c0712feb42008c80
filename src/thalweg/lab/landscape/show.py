"""A landscape in the terminal: progress, and what was found in words."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from thalweg.lab.landscape.run import Landscape, Tell, Trajectory

COLUMNS = ("optimizer", "lr", "steps", "training loss at the start", "at the end", "off the plane", "stored result")


@contextmanager
def watch(shown: Console, silent: bool) -> Generator[Tell]:
    """In a terminal, a bar for each part of the work; elsewhere a line when it is done."""
    bars: dict[str, int] = {}
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=shown, transient=True,
        disable=silent or not shown.is_terminal,
    )  # fmt: skip

    def tell(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = progress.add_task(what, total=total)
        progress.update(bars[what], completed=done)  # pyright: ignore[reportArgumentType]
        if done == total and not silent and not shown.is_terminal:
            shown.print(f"{what}: done")

    with progress:
        yield tell


def show_summary(shown: Console, landscape: Landscape) -> None:
    """Print what the page says in words."""
    shown.print(Text(headline(landscape), style="bold"))
    table = Table(*COLUMNS, box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows(landscape):
        table.add_row(*row)
    shown.print(table)
    for note in notes(landscape):
        shown.print(Text(f"warning: {note}", style="yellow"))


def headline(landscape: Landscape) -> str:
    """Say how much of the trajectories the plane holds."""
    off = ", ".join(
        f"{one.optimizer} {share:.0%}" for one, share in zip(landscape.trajectories, landscape.off, strict=True)
    )
    return (
        f"{percent(landscape.explained)} of the variance lies in this plane; mean distance off it, of the extent: {off}"
    )


def percent(part: float) -> str:
    """Say a part, small ones too."""
    return f"{part:.1%}" if part >= 0.001 else f"{part:.1e}"


def rows(landscape: Landscape) -> list[list[str]]:
    """A line a trajectory, in the order of `COLUMNS`."""
    return [_row(one, off) for one, off in zip(landscape.trajectories, landscape.off, strict=True)]


def _row(one: Trajectory, off: float) -> list[str]:
    return [
        one.optimizer, f"{one.run.config.point['lr']:.3g}", str(one.steps[-1]), f"{one.losses[0]:.4g}",
        f"{one.losses[-1]:.4g}", f"{off:.1%}", "same" if one.same else "differs",
    ]  # fmt: skip


def notes(landscape: Landscape) -> list[str]:
    """What must be known before the picture is believed."""
    found = [
        f"{one.optimizer}: the run did not end where the stored one did. Machine, torch or thalweg differ from the study's;"
        " what is shown is the run made now."
        for one in landscape.trajectories
        if not one.same
    ]
    if landscape.request.plane == "random":
        found.append(
            "random directions are nearly orthogonal to any trajectory, which therefore seems to stand still"
            " (arXiv:1712.09913); --plane pca shows how runs move."
        )
    return found
