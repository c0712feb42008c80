"""``thalweg worker``, and what the other commands do with ``--store URL``."""

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from thalweg.lab.comparison import study_folder
from thalweg.lab.contract import Contract, task_terms
from thalweg.lab.errors import UserError, check_range
from thalweg.lab.execution.board import Board, LocalBoard
from thalweg.lab.execution.lock import only_runner
from thalweg.lab.execution.workers import run_from
from thalweg.lab.options import Data, Jobs, Json, Quiet, console, number, print_json, processes_of
from thalweg.lab.plain import brief, plainest_difference
from thalweg.lab.progress import watch
from thalweg.lab.queue.address import FORMS, VARIABLE, Address, parse
from thalweg.lab.queue.slurm import parse_options, submit
from thalweg.lab.store import Store
from thalweg.lab.tasks import load_task

Url = Annotated[
    str | None, typer.Option("--store", envvar=VARIABLE, metavar="URL", help=f"Storage of a shared study: {FORMS}.")
]


def worker(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Hash of the contract, or its beginning.")],
    store: Url = None,
    data: Data = None,
    jobs: Jobs = None,
    slurm: Annotated[int | None, number("--slurm", "Submit so many workers to Slurm, and end.")] = None,
    slurm_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of sbatch, such as partition=long; repeatable."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Work on a study that several processes or machines share, until it is complete.

    Begin the study with thalweg compare … --store URL.
    """
    if store is None:
        raise UserError(f"--store is not given; it must be {FORMS}, or stand in the environment variable {VARIABLE}.")
    processes = processes_of(jobs)
    if slurm is None:
        summary = work(study, store, processes, console(as_json, quiet), quiet or as_json)
        if as_json:
            print_json(summary)
        return
    from thalweg.lab.queue.ledger import Ledger

    count, options = check_range("--slurm", slurm, 1, 1024), parse_options(slurm_option or [])
    ledger = Ledger.find(parse(store), study)
    submitted = submit(ledger.contract.hash, store, count, processes, options)
    ids = [job.job_id for job in submitted]
    console(as_json, quiet).print(f"Submitted: {' '.join(ids)}")
    if as_json:
        print_json({"study": ledger.contract.hash, "jobs": ids})


def work(study: str, store: str, jobs: int, shown: Console, quiet: bool) -> dict[str, object]:
    """Do runs of a shared study until it is complete; return what was done, for JSON.

    Raises:
        UserError: there is no such study, or this machine's tasks are not those of its contract.
    """
    from thalweg.lab.queue.board import SharedBoard
    from thalweg.lab.queue.ledger import Ledger

    address = parse(store)
    ledger = Ledger.find(address, study)
    contract = ledger.contract
    check_tasks(contract)
    try:
        with (
            _terminated_as_interrupted(),
            SharedBoard(ledger) as board,
            watch(shown, contract, board.plan.results, quiet) as observer,
        ):
            for config, result in run_from(board, jobs):
                observer.ended(config, result)
    except KeyboardInterrupt:
        print(f"Stopped. Continue with:\n  thalweg worker {contract.hash} --store '{address}'", file=sys.stderr)
        raise typer.Exit(130) from None
    shown.print(f"The study is complete; {board.done} of its {contract.runs} runs were done here.")
    return {"study": contract.hash, "runs": contract.runs, "done_here": board.done}


def check_tasks(contract: Contract) -> None:
    """Check that this machine has the tasks of a contract: the same data, network and budget.

    Raises:
        UserError: it does not; the message names the task and what differs.
    """
    for terms in contract.tasks:
        here = task_terms(load_task(terms.name, terms.preset)).model_copy(update={"targets": terms.targets})
        found = plainest_difference(terms.model_dump(mode="json"), here.model_dump(mode="json"))
        if found:
            field, there, mine = found
            raise UserError(
                f"task {terms.name} is another one here: its {field} is {brief(mine)}, the study's is {brief(there)}. Give"
                " this machine the same data and version of thalweg."
            )


@contextmanager
def board_of(opened: Store, address: Address | None) -> Generator[Board]:
    """Where ``thalweg compare`` gets its runs: the study's folder, or a storage, whose runs are in the folder at the end."""
    if address is None:
        yield LocalBoard(opened)
        return
    from thalweg.lab.queue.board import SharedBoard
    from thalweg.lab.queue.fetch import fetch
    from thalweg.lab.queue.inherit import inherit
    from thalweg.lab.queue.ledger import Ledger

    ledger = Ledger.create(address, opened.contract)
    with _terminated_as_interrupted():
        inherit(ledger)
        with SharedBoard(ledger) as board:
            yield board
    fetch(ledger, opened)


def open_study(study: Path, store: str | None) -> Store:
    """Open a study: a folder, or one of a storage, whose finished runs are fetched first.

    Raises:
        UserError: there is none.
    """
    if store is None or (study / "contract.json").is_file():
        return Store.open(study)
    from thalweg.lab.queue.fetch import fetch
    from thalweg.lab.queue.ledger import Ledger

    ledger = Ledger.find(parse(store), str(study))
    opened = Store.create(study_folder(ledger.contract), ledger.contract)
    with only_runner(opened.folder):
        fetch(ledger, opened)
    return opened


@contextmanager
def _terminated_as_interrupted() -> Generator[None]:
    """Answer SIGTERM, by which clusters take machines back, as Ctrl-C: runs are given up, and not taken for dead."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
