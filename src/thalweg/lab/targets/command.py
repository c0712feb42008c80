"""The command line of `thalweg targets`."""

from pathlib import Path
from typing import Annotated

import typer

from thalweg.lab.analysis import Analysis
from thalweg.lab.comparison import study_folder
from thalweg.lab.contract import draw_up
from thalweg.lab.errors import check_range
from thalweg.lab.estimate import estimate_seconds
from thalweg.lab.execution.conduct import conduct
from thalweg.lab.options import (
    Data,
    Device,
    Jobs,
    Json,
    Quiet,
    Size,
    check_output,
    console,
    number,
    print_json,
    processes_of,
)
from thalweg.lab.show import show_contract
from thalweg.lab.store import Store
from thalweg.lab.suites import resolve
from thalweg.lab.targets.frozen import add
from thalweg.lab.targets.levels import SEEDS, TRIALS, levels, references
from thalweg.lab.tasks.files import check_preset


def command(
    names: Annotated[list[str], typer.Argument(metavar="SUITE | TASK…", help="A suite's tasks, or tasks.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.json, which may hold other tasks'.")] = Path(
        "targets.json"
    ),
    trials: Annotated[int, number("--trials", "Points each reference tries on each task.")] = TRIALS,
    seeds: Annotated[int, number("--seeds", "Fresh seeds that the median is of.")] = SEEDS,
    store: Annotated[Path | None, typer.Option(help="Folder of the runs; studies/targets-HASH if not given.")] = None,
    data: Data = None,
    preset: Size = None,
    device: Device = None,
    jobs: Jobs = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the values that runs are timed to, before the runs that are: by references, tuned with more trials.

    `thalweg compare … --targets FILE` reads them; tasks that need no files have theirs with the package.
    """
    check_output("--output", output, ".json")
    processes = processes_of(jobs)
    tuned = check_range("--trials", trials, 1, 4096), check_range("--seeds", seeds, 1, 1000)
    contract = draw_up("targets", list(resolve(names).tasks), references(), *tuned, preset=check_preset(preset))
    folder = store or study_folder(contract)
    shown, opened = console(as_json, quiet), Store.create(folder, contract)
    show_contract(shown, contract, estimate_seconds(contract, processes), processes, str(folder))
    conduct(opened, shown, processes, quiet or as_json, "the same command")
    analysis = Analysis.of(opened)
    found = [levels(analysis, task) for task in contract.tasks]
    add(output, found)
    for targets in found:
        values = ", ".join(f"{level:.5g}" for level in targets.levels)
        shown.print(f"{targets.task}: {values} ({targets.metric}), by {targets.reference}")
    shown.print(f"Targets: {output}", soft_wrap=True)
    if as_json:
        print_json([targets.model_dump(mode="json") for targets in found])
