"""What each idea of DOPE is worth, and how many steps its best forms save: one command makes the tables of ablation.md.

    python benchmarks/ablation.py

Every form is an entry of the lab and every run one of the lab's own: tuned on the tuning seed, compared on fresh seeds,
paired by seed. Runs are kept under studies/, one study a form, so a stopped command continues and a new form costs only its
own runs.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from thalweg.lab.analysis import Analysis, Cell, Run
from thalweg.lab.contract import FIRST_FINAL_SEED, Contract, EntryTerms, TaskTerms, draw_up
from thalweg.lab.run import execute
from thalweg.lab.show import SIGNS, median, signed
from thalweg.lab.space import ENTRIES, Entry, Value, lr
from thalweg.lab.statistics.paired import compare, student_interval
from thalweg.lab.store import Store
from thalweg.lab.study import ready

HERE = Path(__file__).parent
STORE = HERE.parent / "studies" / "ablation"
HEADING = "## Tables\n"
"""What stands above it in ablation.md is written by hand; what follows is written here."""

TASKS = ["docs-gpt", "digits-autoencoder", "digits-cnn", "digits-mlp"]
TRIALS, SEEDS = 8, 8
LESS, MORE = (1 / 3, 1 / 2, 2 / 3), (3 / 2, 2.0, 3.0)
"""Parts of a task's budget at which the racers, and AdamW, run again at the learning rate tuned at the whole."""

TUNED: dict[str, Value] = {
    "betas": (0.999, 0.999),
    "momentum_beta": 0.9,
    "momentum_lambda": 0.1,
    "gamma": 0.0,
    "centralization": 0.5,
    "normalization": 0.5,
    "cautious": True,
}
PLAIN: dict[str, Value] = {"centralization": 0.0, "normalization": 0.0}
ONE_FISHER: dict[str, Value] = {"diff_mult": 0.0}
LEAN = ONE_FISHER | {"power": 0.75}
TOP = ENTRIES["dope"].space["lr"].high


def dope(name: str, changes: Mapping[str, Value], top: float = TOP) -> Entry:
    """DOPE's tuned form with changes; its learning rates end at ``top`` and span what all others' do."""
    return Entry(name=name, rule="dope", fixed={**TUNED, **changes}, space={"lr": lr(top)})


def changed(name: str, of: str, changes: Mapping[str, Value]) -> Entry:
    """One of the lab's entries with changes."""
    return ENTRIES[of].model_copy(update={"name": name, "fixed": {**ENTRIES[of].fixed, **changes}})


OTHERS = [
    *(ENTRIES[name] for name in ("adamw", "adamw_clip", "nadam", "mars", "saveus", "exmachina", "dope")),
    changed("adamw, centralized and normalized", "adamw", {"centralize": 0.5, "normalize": 0.5}),
    changed("saveus, neither", "saveus", PLAIN),
    changed("saveus, cautious", "saveus", {"cautious": True}),
]
CHANGES = [
    dope("tuned", {}),
    dope("short", PLAIN),
    dope("no RMS clip", {"clip": 1e9}),
    dope("no amplification", {"momentum_lambda": 0.0}),
    dope("no momentum", {"amplification_cap": 0.0}),
    dope("not cautious", {"cautious": False}),
    dope("with MARS", {"gamma": 5e-4}),
    dope("decoupled decay", {"decay": "decoupled"}),
    dope("no decay", {"weight_decay": 0.0}),
]
LEAN_CHANGES = [
    dope("lean", LEAN),
    dope("one F, power 0.5", ONE_FISHER),
    dope("one F, power 1", LEAN | {"power": 1.0}),
    dope("lean, not cautious", LEAN | {"cautious": False}),
    dope("lean, no RMS clip", LEAN | {"clip": 1e9}),
]
SHORT_CHANGES = [
    dope("short: one F, power 0.5", PLAIN | ONE_FISHER),
    dope("short: one F, power 0.75", PLAIN | LEAN),
    dope("short: one F, power 1", PLAIN | LEAN | {"power": 1.0}),
    dope("short: no RMS clip", PLAIN | {"clip": 1e9}, top=1e-2),
]
FORMS = [*OTHERS, *CHANGES, *LEAN_CHANGES, *SHORT_CHANGES]
RACERS = ["tuned", "lean", "lean, not cautious", "saveus"]
PRESET = "lean, not cautious"
CONFIRMING = range(3000, 3010)
"""Seeds for the preset alone, used after it was chosen."""
GOALS = ["adamw", "adamw_clip", "adamw, centralized and normalized"]
"""Whose final loss the racers are to reach."""

Cells = dict[tuple[str, str], Cell]
"""By form and task."""


def finish(contract: Contract, name: str) -> list[Cell]:
    """Do the runs that a study has left, one after the other, and return its cells."""
    store = Store.create(STORE / name, contract)
    while left := ready(contract, store.finished()):
        for config in left:
            result = execute(config, store.run(config), stop=lambda: False)
            assert result is not None, "only a stopped run has no result"
            print(f"{name}: {config.path} {result.state} {result.value}", flush=True)
    return Analysis.of(store).cells


def tune(entry: Entry) -> list[Cell]:
    """Tune a form on every task and run its best learning rate on the fresh seeds."""
    return finish(draw_up("ablation", TASKS, [entry], TRIALS, SEEDS), f"forms/{entry.name}")


def rerun(cell: Cell, part: float) -> Cell:
    """Run a tuned form on the fresh seeds again, its schedule scaled to another part of the budget."""
    task = cell.task.model_copy(update={"budget": round(cell.task.budget * part)})
    return run_tuned(cell, task, range(FIRST_FINAL_SEED, FIRST_FINAL_SEED + SEEDS), f"budgets/{{}}/{{}}/{part:.3f}")


def confirm(cell: Cell) -> Cell:
    """Run a tuned form on seeds that no choice of a form has seen."""
    return run_tuned(cell, cell.task, CONFIRMING, "confirmed/{}/{}")


def run_tuned(cell: Cell, task: TaskTerms, seeds: Sequence[int], folder: str) -> Cell:
    """Run a tuned form on a task's terms and seeds; ``folder`` has places for the form's and the task's names."""
    assert cell.point is not None
    contract = draw_up("ablation", [task.name], [cell.terms.entry], 1, 0).model_copy(
        update={
            "tasks": [task],
            "optimizers": [EntryTerms(entry=cell.terms.entry, points=[cell.point])],
            "tuning_seeds": [],
            "final_seeds": list(seeds),
        }
    )
    [found] = finish(contract, folder.format(cell.terms.name, task.name))
    return found


def losses(cell: Cell) -> list[float]:
    """A cell's final validation losses, one a seed; a failure is infinitely bad."""
    return [math.inf if run.result.loss is None else run.result.loss for run in cell.finals]


def part_reaching(goal: float, curve: Sequence[tuple[float, float]]) -> float:
    """The first part of the budget at which the loss is down to the goal, never outside the parts that were run.

    ``curve`` is (part, final loss) in rising order; between two, the loss is linear in the logarithm of the part.
    """
    if curve[0][1] <= goal:
        return curve[0][0]
    for (part, loss), (next_part, next_loss) in pairwise(curve):
        if next_loss <= goal:
            weight = (loss - goal) / (loss - next_loss) if math.isfinite(loss) else 1.0
            return part * (next_part / part) ** weight
    return curve[-1][0]


@dataclass(frozen=True)
class Race:
    """A form and AdamW on one task at several parts of its budget; each curve is (part, cell) in rising order."""

    racer: list[tuple[float, Cell]]
    adamw: list[tuple[float, Cell]]

    @classmethod
    def run(cls, racer: Cell, adamw: Cell) -> "Race":
        """Run what the race needs beside the two tuned cells: the racer at less, both at half as much again, AdamW at more."""
        return cls(
            [*((part, rerun(racer, part)) for part in LESS), (1.0, racer), (MORE[0], rerun(racer, MORE[0]))],
            [(1.0, adamw), *((part, rerun(adamw, part)) for part in MORE)],
        )

    def steps_to(self, reference: Cell) -> list[float]:
        """By seed, how many times fewer steps the racer takes to the final loss that the reference has at the whole."""
        goals = losses(reference)
        return [1 / part_reaching(goal, curve) for goal, curve in zip(goals, by_seed(self.racer), strict=True)]

    def steps_from_adamw(self) -> list[float]:
        """By seed, how many times more steps AdamW takes to the final loss that the racer has at the whole."""
        goals = losses(dict(self.racer)[1.0])
        return [part_reaching(goal, curve) for goal, curve in zip(goals, by_seed(self.adamw), strict=True)]


Races = dict[tuple[str, str], Race]
"""By form and task."""


def by_seed(curve: list[tuple[float, Cell]]) -> list[list[tuple[float, float]]]:
    """One (part, loss) curve a seed."""
    parts = [part for part, _ in curve]
    columns = zip(*(losses(cell) for _, cell in curve), strict=True)
    return [list(zip(parts, column, strict=True)) for column in columns]


def say_ratio(ratios: list[float], limits: tuple[float, float]) -> str:
    """The geometric mean of ratios with its interval, and how many seeds ended at a limit of what was run."""
    found = student_interval(np.log(ratios), 0.95)
    middle, low, high = np.exp([found.middle, found.low, found.high])
    cut = sum(any(math.isclose(ratio, limit) for limit in limits) for ratio in ratios)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]" + (f" ({cut} of {len(ratios)} at the limit)" if cut else "")


def say_difference(cell: Cell, reference: Cell) -> str:
    """The paired difference in the task's metric, positive where the cell is better."""
    found = compare(cell.oriented, reference.oriented, cell.task.margin)
    return f"{signed(found.difference) if found.difference else 'failures'} {SIGNS[found.verdict]}"


def say_loss_difference(cell: Cell, reference: Cell) -> str:
    """The paired difference in validation loss, positive where the cell is better."""
    if cell.failures or reference.failures:
        return "failures"
    return signed(student_interval(np.subtract(losses(reference), losses(cell)), 0.95))


def say_cell(cell: Cell) -> str:
    """The median of a cell and its learning rate."""
    assert cell.point is not None
    failed = f", {cell.failures} failed" if cell.failures else ""
    edge = " at the edge" if cell.at_boundary else ""
    return f"{median(cell)} ({cell.point['lr']:.2g}{edge}{failed})"


def table(heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table under a heading."""
    lines = [f"### {heading}", "", *(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)), ""]
    return "\n".join(lines)


def state_bytes(cells: Cells, form: str) -> str:
    """Bytes of optimizer state a parameter."""
    found = cells[form, TASKS[0]].finals[0].result.state_bytes_per_parameter
    return "–" if found is None else f"{found:.3g}"


def median_table(cells: Cells) -> str:
    """Medians, learning rates and bytes of state of every form."""
    units = "; ".join(f"{task}: {(terms := cells['adamw', task].task).metric}, {terms.unit}" for task in TASKS)
    rows = [[f.name, state_bytes(cells, f.name), *(say_cell(cells[f.name, task]) for task in TASKS)] for f in FORMS]
    return table(f"Medians of {SEEDS} seeds (and tuned learning rates); {units}", ["form", "bytes", *TASKS], rows)


def against(reference: str, forms: Sequence[Entry], cells: Cells) -> str:
    """Paired differences from one form; forms down, tasks across."""
    rows = [
        [form.name, *(say_difference(cells[form.name, task], cells[reference, task]) for task in TASKS)]
        for form in forms
    ]
    return table(f"Against {reference}, in the metric, positive is better", ["form", *TASKS], rows)


def confirmation(cells: Cells) -> str:
    """The preset against every kind of AdamW on seeds that its choice has not seen."""
    rows = [
        [goal, *(say_difference(confirm(cells[PRESET, task]), confirm(cells[goal, task])) for task in TASKS)]
        for goal in GOALS
    ]
    return table(f"{PRESET} against others on {len(CONFIRMING)} seeds of their own", ["reference", *TASKS], rows)


def step_table(cells: Cells, races: Races) -> str:
    """Ratios of steps."""
    rows = [
        [
            form,
            task,
            *(say_ratio(race.steps_to(cells[goal, task]), (1 / LESS[0], 1 / MORE[0])) for goal in GOALS),
            say_ratio(race.steps_from_adamw(), (1.0, MORE[-1])),
        ]
        for (form, task), race in races.items()
    ]
    heading = "Times fewer steps to the final loss of each AdamW, and times more that AdamW takes to the form's"
    return table(heading, ["form", "task", *GOALS, "adamw's more"], rows)


def loss_table(form: str, cells: Cells, races: Races) -> str:
    """Differences in loss: the form at parts of the budget from AdamW at the whole, then at the whole from AdamW at more."""
    first = races[form, TASKS[0]]
    columns = [f"{part:.2g} N to N" for part, _ in first.racer] + [f"N to {part:.2g} N" for part, _ in first.adamw[1:]]
    rows = [
        [
            task,
            *(say_loss_difference(cell, cells["adamw", task]) for _, cell in races[form, task].racer),
            *(say_loss_difference(cells[form, task], cell) for _, cell in races[form, task].adamw[1:]),
        ]
        for task in TASKS
    ]
    return table(f"Validation loss of {form} below AdamW's, its budget to AdamW's", ["task", *columns], rows)


def tables(cells: Cells, races: Races) -> str:
    """Everything below the heading."""
    return "\n".join(
        [
            median_table(cells),
            against("adamw", FORMS[1:], cells),
            against("tuned", [*CHANGES[1:], *LEAN_CHANGES], cells),
            against("lean", LEAN_CHANGES[1:], cells),
            against("short", SHORT_CHANGES, cells),
            against("saveus", [form for form in [*OTHERS, *LEAN_CHANGES] if form.name != "saveus"], cells),
            confirmation(cells),
            step_table(cells, races),
            *(loss_table(form, cells, races) for form in RACERS),
        ]
    )


def write_runs(path: Path, runs: Sequence[Run]) -> None:
    """Write every run, one a line."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["form", "task", "phase", "seed", "lr", "budget", "state", "value", "loss", "test"])
        for run in runs:
            config, result = run.config, run.result
            setting = (
                config.optimizer,
                config.task,
                config.phase,
                config.seed,
                f"{config.point['lr']:.4g}",
                config.budget,
            )
            numbers = ("" if x is None else f"{x:.6g}" for x in (result.value, result.loss, result.test))
            writer.writerow([*setting, result.state, *numbers])


def main() -> None:
    torch.set_num_threads(1)
    cells: Cells = {(form.name, cell.task.name): cell for form in FORMS for cell in tune(form)}
    races = {(form, task): Race.run(cells[form, task], cells["adamw", task]) for form in RACERS for task in TASKS}
    # AdamW's curve is every race's: a dictionary counts its cells once.
    extra = {id(cell): cell for race in races.values() for part, cell in race.racer + race.adamw if part != 1}
    rows = {
        (run.config.study, run.config.path): run
        for cell in [*cells.values(), *extra.values()]
        for run in cell.tuning + cell.finals
    }
    write_runs(HERE / "ablation.csv", list(rows.values()))
    page = HERE / "ablation.md"
    written_by_hand = page.read_text(encoding="utf-8").partition(HEADING)[0]
    page.write_text(f"{written_by_hand}{HEADING}\n{tables(cells, races)}", encoding="utf-8")


if __name__ == "__main__":
    main()
