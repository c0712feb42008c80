"""The command line. Every command is a few lines: read the options, call the lab, show what came back."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from thalweg._version import __version__
from thalweg.lab import complete
from thalweg.lab.analysis import Analysis
from thalweg.lab.bench import command as bench
from thalweg.lab.comparison import Request
from thalweg.lab.conformance import command as conformance
from thalweg.lab.doctor import command as doctor
from thalweg.lab.estimate import estimate_seconds
from thalweg.lab.execution.conduct import conduct
from thalweg.lab.export import command as export
from thalweg.lab.fetch import command as fetch
from thalweg.lab.growth import require_extension
from thalweg.lab.landscape import command as landscape
from thalweg.lab.listing import LISTINGS
from thalweg.lab.merge import command as merge
from thalweg.lab.new import command as new
from thalweg.lab.options import Data, Device, Jobs, Json, Quiet, Size, console, number, print_json, processes_of
from thalweg.lab.queue.address import VARIABLE, is_url, parse
from thalweg.lab.queue.command import Url, open_study, worker
from thalweg.lab.race import command as race
from thalweg.lab.reproduce import command
from thalweg.lab.show import show_contract, show_status
from thalweg.lab.spectrum import command as spectrum
from thalweg.lab.store import Store
from thalweg.lab.targets.command import command as targets
from thalweg.lab.verdict import forms
from thalweg.lab.verify import command as verify
from thalweg.lab.words import amount

app = typer.Typer(
    help="Compare optimizers fairly, and see the result.", no_args_is_help=True, pretty_exceptions_enable=False
)

Study = Annotated[
    Path, typer.Argument(help="Folder of a study; with --store URL, the hash of its contract.", metavar="STUDY")
]


class Listing(StrEnum):
    """What ``thalweg list`` can list."""

    OPTIMIZERS = "optimizers"
    TASKS = "tasks"
    SUITES = "suites"


def _version(wanted: bool) -> None:
    if wanted:
        print(f"thalweg {__version__}")
        raise typer.Exit


@app.callback()
def thalweg(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compare optimizers fairly, and see the result."""


@app.command()
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE | TASK…]",
            help="A suite, or tasks; smoke if none.",
            autocompletion=complete.suites_and_tasks,
        ),
    ] = None,
    optimizers: Annotated[
        str | None,
        typer.Option("-o", "--optimizers", help="Names separated by commas.", autocompletion=complete.optimizers),
    ] = None,
    trials: Annotated[int | None, number("--trials", "Points each optimizer tries on each task.")] = None,
    seeds: Annotated[int | None, number("--seeds", "Fresh seeds the best point is run on again.")] = None,
    ruleset: Annotated[
        str | None, typer.Option("--ruleset", help="tuned, hands-off or robustness; the suite's own if not given.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar=VARIABLE,
            metavar="DIR|URL",
            help="Folder of the study; studies/SUITE-HASH if not given. Or the URL of a storage, for a study that others work"
            " on too: see thalweg worker.",
        ),
    ] = None,
    targets: Annotated[
        Path | None, typer.Option("--targets", help="File of `thalweg targets`, for tasks that have none frozen.")
    ] = None,
    data: Data = None,
    preset: Size = None,
    device: Device = None,
    jobs: Jobs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the contract and stop.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tune optimizers on tasks under equal budgets, run the winners on fresh seeds, report.

    The ruleset hands-off tunes nothing; robustness sweeps the learning rate, plain and steered by curvature.

    Runs are stored as they end. The same command continues a study that was stopped or killed.
    """
    address = parse(store) if is_url(store) else None
    given = None if store is None or address else Path(store)
    request = Request(names or [], optimizers, trials, seeds, given, ruleset, preset, targets)
    processes = processes_of(jobs)
    contract = request.contract()
    folder = request.folder(contract)
    shown = console(as_json, quiet)
    if dry_run and (folder / "contract.json").exists():
        require_extension(Store.open(folder).contract, contract, str(folder))
    opened = None if dry_run else Store.create(folder, contract)
    seconds = estimate_seconds(contract, processes)
    show_contract(shown, contract, seconds, processes, str(folder))
    if opened is None:
        if as_json:
            print_json({"contract": contract.model_dump(mode="json"), "hash": contract.hash, "seconds": seconds})
        return
    conduct(opened, shown, processes, quiet or as_json, command(contract, str(address or folder)), address)
    _conclude(shown, Analysis.of(opened), as_json)


def _conclude(shown: Console, analysis: Analysis, as_json: bool) -> None:
    """Show the verdict, write the report; exit 1 if a run broke."""
    form = forms(analysis.store.contract)
    path = form.write(analysis)
    form.show(shown, analysis)
    shown.print(f"Report: {path}", soft_wrap=True)
    if as_json:
        print_json({"report": str(path), "outcome": form.summary(analysis)})
    broken = [run for run in analysis.runs if run.result.state not in ("ok", "diverged")]
    if broken:
        run = broken[0]
        cause = run.result.message.strip().splitlines()[-1]
        print(f"{amount(len(broken), 'run')} broke, first {run.config.path}: {cause}", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def report(study: Study, store: Url = None) -> None:
    """Write STUDY/report.html from the stored runs."""
    opened = open_study(study, store)
    print(forms(opened.contract).write(Analysis.of(opened)))


@app.command()
def status(study: Study, store: Url = None, as_json: Json = False) -> None:
    """Show how far a study is."""
    analysis = Analysis.of(open_study(study, store))
    if as_json:
        print_json(forms(analysis.store.contract).summary(analysis))
    else:
        show_status(console(), analysis)


@app.command(name="list")
def list_(
    what: Annotated[Listing | None, typer.Argument(help="What to list; everything if not given.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the optimizers, tasks and suites there are."""
    listings = {name: LISTINGS[name]() for name in LISTINGS if what is None or name == what}
    if as_json:
        print_json(listings)
        return
    for name, rows in listings.items():
        table = Table(*rows[0], title=name, title_justify="left", box=None, header_style="dim")
        for row in rows:
            table.add_row(*row.values())
        console().print(table)


app.command("worker")(worker)
app.command("bench")(bench)
app.command("conformance")(conformance)
app.command("verify")(verify)
app.command("spectrum")(spectrum)
app.command("merge")(merge)
app.command("targets")(targets)
app.command("race")(race)
app.command("landscape")(landscape)
app.command("export")(export)
app.command("fetch")(fetch)
app.command("doctor")(doctor)
app.command("new")(new)
