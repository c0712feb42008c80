"""A race in the terminal: a line an optimizer as it is tuned, and the standings."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from thalweg.lab.race.run import ARRIVED, Race, Track
from thalweg.lab.race.surfaces import Surface

COLUMNS = ("optimizer", "lr", "f − f* settled at", "lowest", f"below {ARRIVED:g} from", "steps", "gradients used")


@contextmanager
def watch(shown: Console, surface: Surface, count: int, silent: bool) -> Generator[Callable[[Track], None]]:
    """In a terminal, a bar over the optimizers."""
    if not silent:
        shown.print(Text(f"{surface.name}: f = {surface.formula}", style="bold"))
        shown.print(surface.trouble)
    progress = Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("optimizers tuned"), console=shown, transient=True,
        disable=silent or not shown.is_terminal,
    )  # fmt: skip
    with progress:
        bar = progress.add_task("", total=count)
        yield lambda track: progress.advance(bar)


def show_summary(shown: Console, race: Race) -> None:
    """Print the standings."""
    table = Table(*COLUMNS, box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for track in standings(race):
        table.add_row(*row(track))
    shown.print(table)
    shown.print(Text(how(race), style="dim"))


def standings(race: Race) -> list[Track]:
    """The tracks, best first."""
    return sorted(race.tracks, key=lambda track: track.rank)


def row(track: Track) -> list[str]:
    """A line of the standings, in the order of `COLUMNS`."""
    arrival = "–" if track.arrival is None else f"{track.charged[track.arrival].item():.4g}"
    settled = "diverged" if track.diverged else f"{track.settled:.2e}"
    return [
        track.optimizer, f"{track.lr:.3g}", settled, f"{track.lowest:.2e}", arrival, str(track.steps),
        f"{track.charged[-1].item():.4g}",
    ]  # fmt: skip


def how(race: Race) -> str:
    """Say in a few sentences how the learning rates were found."""
    scaled = f" of f/{race.surface.scale:g}" if race.surface.scale != 1 else ""
    return (
        f"Each tried {race.trials} learning rates{scaled} over the lab's range for it and keeps the one whose run settles"
        f" lowest: the median f − f* of the last tenth. Each may use {race.budget} gradient-equivalents."
    )
