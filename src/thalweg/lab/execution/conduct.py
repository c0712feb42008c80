"""A study from its first run to its last: one runner, its progress shown, and how to go on when it is stopped."""

import json
import sys

import typer
from rich.console import Console

from thalweg.lab.execution.lock import only_runner
from thalweg.lab.execution.workers import run_from
from thalweg.lab.page import write_text
from thalweg.lab.progress import watch
from thalweg.lab.queue.address import Address
from thalweg.lab.queue.command import board_of
from thalweg.lab.store import Store
from thalweg.lab.study import counted
from thalweg.lab.verify.record import latest


def conduct(
    opened: Store, console: Console, jobs: int, silent: bool, again: str, address: Address | None = None
) -> None:
    """Do the runs that a study has left: those of its folder, or of the storage at an address.

    Ctrl-C ends the process with 130, after the steps in progress, and says the command that goes on.

    Raises:
        UserError: another process runs the study, it cannot be written, or workers cannot start.
    """
    try:
        with only_runner(opened.folder):
            opened.extend()
            with board_of(opened, address) as board:
                done = counted(opened.contract, board.plan.results)
                with watch(console, opened.contract, done, silent) as observer:
                    for config, result in run_from(board, jobs):
                        observer.ended(config, result)
            _note_references(opened)
    except KeyboardInterrupt:
        print(f"Stopped; finished runs are kept. Continue with:\n  {again}", file=sys.stderr)
        raise typer.Exit(130) from None


def _note_references(opened: Store) -> None:
    """Keep with the study what the last `thalweg verify` on this machine came to: a report is made of the study alone."""
    found = latest()
    if found is not None:
        write_text(opened.folder / "verified.json", f"STUDY {opened.folder}", json.dumps(found, indent=2) + "\n")
