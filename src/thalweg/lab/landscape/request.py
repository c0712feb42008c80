"""What `thalweg landscape` asks for, checked against the stored study."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from thalweg.lab.analysis import Analysis, Cell, Run
from thalweg.lab.comparison import split
from thalweg.lab.errors import UserError, check_name, check_range
from thalweg.lab.landscape.limits import snapshots
from thalweg.lab.store import Store
from thalweg.lab.tasks import Task, load_task

PLANES = ("pca", "random")


@dataclass(frozen=True)
class Request:
    """Which runs are trained again, and which plane is laid through them."""

    folder: Path
    task: Task
    runs: list[Run]
    seed: int
    plane: Literal["pca", "random"]
    resolution: int
    snapshots: int
    """Of each run, after the first."""

    @classmethod
    def of(
        cls, folder: Path, task: str | None, optimizers: str | None, plane: str, seed: int | None, resolution: int
    ) -> "Request":
        """Read the study and check the options; None where the study decides.

        Raises:
            UserError: a name or number that the study does not have, a run that is missing or failed, data that changed.
        """
        analysis = Analysis.of(Store.open(folder))
        contract = analysis.store.contract
        kind = cast(Literal["pca", "random"], check_name("--plane", plane, PLANES))
        size = check_range("--resolution", resolution, 5, 301)
        tasks = [terms.name for terms in contract.tasks]
        name = check_name("task of the study", tasks[0] if task is None else task, tasks)
        known = [terms.name for terms in contract.optimizers]
        asked = known if optimizers is None else split(optimizers)
        names = [check_name("optimizer of the study", one, known) for one in asked]
        drawn = contract.final_seeds[0] if seed is None else seed
        if drawn not in contract.final_seeds:
            raise UserError(
                f"--seed is {drawn}; the study's final seeds are {contract.final_seeds[0]} to {contract.final_seeds[-1]}."
            )
        runs = [_winner(analysis.cell(name, optimizer), drawn) for optimizer in names]
        loaded = load_task(name, contract.preset)
        if loaded.data_hash != contract.task(name).data_hash:
            raise UserError(
                f"task {name}: the data is not the study's (hash {loaded.data_hash}, the contract's"
                f" {contract.task(name).data_hash}); give its folder by --data."
            )
        parameters = contract.task(name).parameters
        return cls(folder, loaded, runs, drawn, kind, size, snapshots(parameters, len(runs)))

    @property
    def command(self) -> str:
        """The command that does it again."""
        names = ",".join(run.config.optimizer for run in self.runs)
        return (
            f"thalweg landscape {self.folder} --task {self.task.name} -o {names} --plane {self.plane} --seed {self.seed}"
            f" --resolution {self.resolution}"
        )


def _winner(cell: Cell, seed: int) -> Run:
    """The winner's run on a final seed; in a sweep, the one at the best learning rate itself.

    Raises:
        UserError: it is missing, or did not end well.
    """
    found = [run for run in cell.finals if run.config.seed == seed and run.config.point == cell.point]
    where = f"{cell.terms.name} on {cell.task.name}, seed {seed}"
    if not found:
        raise UserError(f"{where}: there is no finished run; continue the study, or name others by -o.")
    if not found[0].result.ok:
        raise UserError(f"{where}: the run {found[0].result.state}; give another --seed, or name others by -o.")
    return found[0]
