"""The command line of `thalweg verify`."""

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from thalweg.lab.complete import one_of
from thalweg.lab.environment import environment
from thalweg.lab.errors import check_name
from thalweg.lab.options import Data, Jobs, Json, Quiet, check_output, console, print_json, processes_of
from thalweg.lab.plain import plain
from thalweg.lab.verify import record
from thalweg.lab.verify.references import GROUPS, Group
from thalweg.lab.verify.run import Outcome, outcomes
from thalweg.lab.verify.show import as_csv, as_data, line, table
from thalweg.lab.words import amount

Observer = Callable[[Outcome], None]


def command(
    only: Annotated[
        str | None,
        typer.Option(help=f"One group: {', '.join(GROUPS)}; all if not given.", autocompletion=one_of(GROUPS)),
    ] = None,
    data: Data = None,
    jobs: Jobs = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Also save: FILE.csv, or FILE.json with every probe of the runs."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure known references again: ours, reference, tolerance, pass. Exit 1 if one fails.

    What all groups came to is kept in a file that reports are stamped with.
    """
    chosen = GROUPS if only is None else {only: GROUPS[check_name("--only", only, GROUPS)]}
    processes = processes_of(jobs)
    if output is not None:
        check_output("--output", output, ".json", ".csv")
    shown = console(as_json, quiet)
    done: dict[str, list[Outcome]] = {}
    for name, group in chosen.items():
        count = len(group.references)
        shown.print(f"{name}: {amount(count, 'reference')}, about {max(1, group.seconds(processes)):.0f} s")
    try:
        for name, group in chosen.items():
            _measure(shown, group, processes, done.setdefault(name, []), as_json or quiet)
    except KeyboardInterrupt:
        total = sum(len(group.references) for group in chosen.values())
        print(f"Stopped after {sum(map(len, done.values()))} of {total} references.", file=sys.stderr)
        raise typer.Exit(130) from None
    finally:
        _conclude(done, output, as_json)
    found = [outcome for group in done.values() for outcome in group]
    failed = [outcome for outcome in found if outcome.failed]
    for outcome in failed:
        print(f"{line(outcome)}\n{outcome.error}".rstrip(), file=sys.stderr)
    for outcome in found:
        if outcome.missing:
            print(f"{outcome.reference.name} was not measured: {outcome.missing}", file=sys.stderr)
    if only is None:
        _keep(found)
    if failed:
        raise typer.Exit(1)


def _keep(found: list[Outcome]) -> None:
    try:
        record.save(found)
    except OSError as error:
        print(f"The outcome was not recorded: {record.path()} cannot be written: {error.strerror}.", file=sys.stderr)


def _measure(shown: Console, group: Group, jobs: int, into: list[Outcome], silent: bool) -> None:
    with _progress(shown, group, silent) as tell:
        for outcome in outcomes(group.references, jobs):
            into.append(outcome)
            tell(outcome)


@contextmanager
def _progress(shown: Console, group: Group, silent: bool) -> Generator[Observer]:
    """A table that fills in a terminal; elsewhere a line an outcome, then the table."""
    done: dict[str, Outcome] = {}
    if silent:
        yield lambda outcome: None
    elif shown.is_terminal:
        with Live(table(group, done), console=shown, auto_refresh=False) as live:

            def fill(outcome: Outcome) -> None:
                done[outcome.reference.name] = outcome
                live.update(table(group, done), refresh=True)

            yield fill
    else:

        def tell(outcome: Outcome) -> None:
            done[outcome.reference.name] = outcome
            shown.print(f"{len(done)}/{len(group.references)} {line(outcome)}")

        yield tell
        shown.print(table(group, done))


def _conclude(done: dict[str, list[Outcome]], output: Path | None, as_json: bool) -> None:
    """Bring the outcomes in the order of the table; save them, print them."""
    for name, found in done.items():
        order = [reference.name for reference in GROUPS[name].references]
        found.sort(key=lambda outcome: order.index(outcome.reference.name))
    if as_json:
        print_json(plain({name: as_data(GROUPS[name], found) for name, found in done.items()}))
    if output is None:
        return
    if output.suffix == ".csv":
        text = as_csv([outcome for found in done.values() for outcome in found])
    else:
        groups = {name: as_data(GROUPS[name], found, traces=True) for name, found in done.items()}
        text = (
            json.dumps(plain({"environment": environment().model_dump(), "groups": groups}), ensure_ascii=False) + "\n"
        )
    output.write_text(text, encoding="utf-8")
