"""Progress of a study while it runs: a live table in a terminal, plain lines elsewhere. In the parent only."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from thalweg.lab.contract import Contract
from thalweg.lab.records import Result, RunConfig

PLAIN_SECONDS = 5.0
"""Shortest time between two plain lines."""


class Observer(Protocol):
    """Who is told of every run as it ends."""

    def ended(self, config: RunConfig, result: Result) -> None:
        """Note a run."""
        ...


class Quiet:
    """Says nothing."""

    def ended(self, config: RunConfig, result: Result) -> None:
        """Note a run."""


class PlainLines:
    """One line every few seconds, and one for every run that broke."""

    def __init__(self, console: Console, contract: Contract, done: int):
        self.console, self.total, self.done = console, contract.runs, done
        self.first: tuple[int, float] | None = None
        self.last = time.monotonic()

    def ended(self, config: RunConfig, result: Result) -> None:
        """Note a run."""
        self.done += 1
        now = time.monotonic()
        if result.state not in ("ok", "diverged"):
            self.console.print(f"{config.path}: {result.state}")
        if self.first is None:  # the pace is that of the runs, not of the workers' start
            self.first = (self.done, now)
        elif now - self.last >= PLAIN_SECONDS or self.done == self.total:
            self.last = now
            pace = (now - self.first[1]) / (self.done - self.first[0])
            left = f"about {pace * (self.total - self.done):.0f} s left"
            self.console.print(f"{self.done}/{self.total} runs, {left}; last: {config.path} {result.state}")


class LiveTable:
    """Tasks down, optimizers across, a bar below."""

    def __init__(self, contract: Contract, results: dict[str, Result]):
        self.contract = contract
        self.counts: dict[tuple[str, str, str], int] = {}
        self.failed: dict[tuple[str, str], int] = {}
        self.bar = Progress(
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.job = self.bar.add_task("runs", total=contract.runs)
        for path, result in results.items():
            task, optimizer, run = path.split("/")
            self._note(task, optimizer, run.partition("-")[0], result)

    def ended(self, config: RunConfig, result: Result) -> None:
        """Note a run."""
        self._note(config.task, config.optimizer, config.phase, result)

    def _note(self, task: str, optimizer: str, phase: str, result: Result) -> None:
        key = (task, optimizer, phase)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.failed[task, optimizer] = self.failed.get((task, optimizer), 0) + (not result.ok)
        self.bar.advance(self.job)

    def __rich__(self) -> Group:
        """Draw the table."""
        names = [terms.name for terms in self.contract.optimizers]
        table = Table("", *names, box=None, header_style="dim", padding=(0, 2, 0, 0))
        for task in self.contract.tasks:
            table.add_row(task.name, *(self._cell(task.name, name) for name in names))
        return Group(table, self.bar)

    def _cell(self, task: str, optimizer: str) -> Text:
        phase, runs = self.contract.last_phase, self.contract.last_runs
        tuning, last = self.counts.get((task, optimizer, "tuning"), 0), self.counts.get((task, optimizer, phase), 0)
        trials = self.contract.trial_runs(self.contract.optimizer(optimizer))
        if last == runs:
            text = Text("done", style="green")
        elif tuning == trials:
            text = Text(f"{phase} {last}/{runs}", style="cyan" if last else "dim")
        else:
            text = Text(f"tune {tuning}/{trials}", style="" if tuning else "dim")
        failed = self.failed.get((task, optimizer), 0)
        return text.append(f" {failed}✗", style="red") if failed else text


@contextmanager
def watch(console: Console, contract: Contract, results: dict[str, Result], quiet: bool) -> Generator[Observer]:
    """Show progress in the way the console can."""
    if quiet:
        yield Quiet()
    elif console.is_terminal:
        table = LiveTable(contract, results)
        with Live(table, console=console, refresh_per_second=4):
            yield table
    else:
        yield PlainLines(console, contract, len(results))
