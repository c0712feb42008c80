"""A recording in the terminal: a line a probe while it runs, and a summary at the end."""

import math
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from thalweg.control import Decision
from thalweg.lab.show import duration
from thalweg.lab.spectrum.decisions import MEANINGS, price, rates, shares
from thalweg.lab.spectrum.record import Portrait, Recording, Request
from thalweg.lab.spectrum.run import Observer

BAR = 24
"""Characters of a bar; the edge of stability lies at two thirds of it."""
EDGE = 16
BLOCKS = " ▁▂▃▄▅▆▇█"
COLUMNS = 72
"""Of the density."""
NEAR, ABOVE = 0.8, 1.2
"""Ratios between which a run is at the edge; what the literature sees hovers within."""


def place(ratio: float) -> str:
    """Say where a ratio of sharpness to threshold lies."""
    return "below" if ratio < NEAR else "above" if ratio > ABOVE else "at"


COLOURS = {"below": "green", "at": "yellow", "above": "red"}
LEFT, RIGHT = f"{'step':>7} {'loss':>10} {'λ₁ of H':>10}", f" {'sharpness':>10} {'threshold':>10} {'ratio':>6}"


@contextmanager
def watch(shown: Console, request: Request, silent: bool) -> Generator[Observer]:
    """A line a probe; in a terminal, a bar below them."""
    if silent:
        yield lambda recording: None
        return
    shown.print(Text(request.rule, style="bold"), Text(f"on {request.task.name}: {request.task.summary}"))
    governed = f" {'η used':>9} {'held by':<11}" if request.entry.steering else ""
    shown.print(Text(LEFT + governed + RIGHT, style="dim"))
    progress = Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("steps, left"), TimeRemainingColumn(), console=shown,
        transient=True, disable=not shown.is_terminal,
    )  # fmt: skip
    with progress:
        bar = progress.add_task("", total=request.steps)

        def tell(recording: Recording) -> None:
            shown.print(line(recording))
            progress.update(bar, completed=recording.probes[-1].step)

        yield tell


def line(recording: Recording) -> Text:
    """The last probe: numbers, and a bar that ends where the sharpness is, the threshold marked on it."""
    probe = recording.probes[-1]
    edge = probe.edge
    text = Text(f"{probe.step:>7} {probe.loss:>10.4g} {probe.eigenvalues[0]:>10.4g}")
    if recording.request.entry.steering:
        text.append(held(recording.decisions))
    if edge is None:
        return text.append(f" {'–':>10} {'–':>10}")
    text.append(f" {edge.sharpness:>10.4g} {edge.threshold:>10.4g}")
    filled = max(0, min(BAR, round(EDGE * edge.ratio)))
    bar = "".join("│" if i == EDGE else "█" if i < filled else "·" for i in range(BAR))
    return text.append(f" {edge.ratio:6.3f} ").append(bar, style=COLOURS[place(edge.ratio)])


def held(decisions: list[Decision]) -> str:
    """The learning rate of the last step, and what held it there."""
    return f" {decisions[-1].used:>9.3g} {decisions[-1].active:<11}" if decisions else f" {'–':>9} {'–':<11}"


def show_summary(shown: Console, recording: Recording) -> None:
    """Print the end: the verdict, the top eigenvalues, the layers, the density, the cost."""
    shown.print(Text(verdict(recording), style="bold"))
    for note in recording.notes:
        shown.print(Text(f"warning: {note}", style="yellow"))
    if not recording.probes:
        return
    if recording.decisions:
        shown.print(rates(recording.decisions))
        shown.print(_shares(recording.decisions))
        shown.print(price(recording.decisions))
    last = recording.probes[-1]
    pairs = zip(last.eigenvalues, last.residuals, strict=True)
    largest = ", ".join(f"{value:.4g} ± {residual:.1g}" for value, residual in pairs)
    shown.print(f"largest eigenvalues of the Hessian at step {last.step}: {largest}")
    if recording.portraits:
        shown.print(_layers(recording.portraits))
        end = recording.portraits[-1]
        shown.print(Text(f"density of {recording.parameters:,} eigenvalues at step {end.step}, logarithmic", "dim"))
        shown.print(sparkline(end))
    shown.print(Text(cost(recording), style="dim"))


def verdict(recording: Recording) -> str:
    """Say in a sentence how the run stands to the threshold."""
    steps, asked = len(recording.losses), recording.request.steps
    ended = {
        "finished": f"{steps} steps.",
        "stopped": f"Stopped after {steps} of {asked} steps.",
        "diverged": f"Diverged: not finite after {steps} of {asked} steps.",
    }[recording.state]
    ratio = recording.settled_ratio
    if ratio is None:
        why = recording.why_no_threshold
        return f"{ended} No stability threshold to compare with{f': {why}' if why else '.'}"
    where = {
        "below": "below the edge of stability",
        "at": "at the edge of stability",
        "above": "above the edge of stability",
    }
    return f"{ended} {where[place(ratio)].capitalize()}: sharpness ÷ threshold {ratio:.3f}, median of the second half."


def cost(recording: Recording) -> str:
    """Say what measuring took."""
    probes = len(recording.probes)
    return (
        f"{probes} probes on {len(recording.request.task.probe[0]):,} examples: {recording.products:,} products,"
        f" {duration(recording.probing_seconds)}; training {duration(recording.training_seconds)}."
    )


def _shares(decisions: list[Decision]) -> Table:
    table = Table("held by", box=None, header_style="dim")
    for title in ("of the steps", "", "which is"):
        table.add_column(title, justify="right" if title == "of the steps" else "left")
    for name, share in shares(decisions):
        table.add_row(name, f"{share:.1%}", Text("█" * round(BAR * share), "cyan"), MEANINGS.get(name, ""))
    return table


def _layers(portraits: list[Portrait]) -> Table:
    table = Table("largest eigenvalue of a layer's block", box=None, header_style="dim")
    for portrait in portraits:
        table.add_column(f"step {portrait.step}", justify="right")
    table.add_column("")
    last = portraits[-1].layers
    top = max(last.values())
    for name in last:
        bar = "█" * max(0, round(BAR * last[name] / top)) if top > 0 else ""
        table.add_row(name, *(f"{portrait.layers[name]:.4g}" for portrait in portraits), Text(bar, style="cyan"))
    return table


def sparkline(portrait: Portrait) -> str:
    """A density in block characters, its ends in numbers; four decades high."""
    size = len(portrait.values)
    cells = [portrait.values[i * size // COLUMNS : (i + 1) * size // COLUMNS] for i in range(COLUMNS)]
    tops = [max(cell) for cell in cells]
    highest = max(tops)
    heights = [1 + math.log10(max(top, 1e-300) / highest) / 4 for top in tops]
    drawn = "".join(BLOCKS[max(0, min(8, math.ceil(8 * height)))] for height in heights)
    return f"{portrait.grid[0]:.3g} {drawn} {portrait.grid[-1]:.3g}"
