"""The lead about DOPE in its own setting: a GPT of 4 layers of 128 on the documentation, 400 steps of 12 × 64 characters.

    python benchmarks/lead.py

prints the tables of "The lead in its own setting" in ablation.md and writes every run into lead.csv. The task is the lab's
docs-gpt, enlarged; each run is the lab's. Runs are kept under studies/, so a stopped command continues.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import cast

import torch
from ablation import PLAIN, TUNED, by_seed, losses, part_reaching, say_loss_difference, say_ratio, table

from thalweg.lab.analysis import Analysis, Cell, Run
from thalweg.lab.contract import FIRST_FINAL_SEED, Contract, EntryTerms, task_terms
from thalweg.lab.environment import environment
from thalweg.lab.models import GPT
from thalweg.lab.run import train
from thalweg.lab.space import ENTRIES, Entry, Schedule, Value
from thalweg.lab.store import Store
from thalweg.lab.study import ready
from thalweg.lab.tasks import Task, docs_gpt

HERE = Path(__file__).parent
STORE = HERE.parent / "studies" / "lead"
LAYERS, WIDTH, HEADS, CONTEXT, BATCH, STEPS, WARMUP = 4, 128, 4, 64, 12, 400, 40
TUNING_SEED = 0
FRESH = range(FIRST_FINAL_SEED, FIRST_FINAL_SEED + 4)
MOST_RATES = 6
"""While the best learning rate is the lowest or the highest tried, a further one is tried, up to so many."""

SHORT = TUNED | PLAIN


@dataclass(frozen=True)
class Form:
    """An optimizer and the lowest of the four learning rates, each twice the one before, that tuning begins with."""

    name: str
    rule: str
    fixed: dict[str, Value]
    lowest: float

    @property
    def rates(self) -> list[float]:
        """The learning rates to begin with."""
        return [self.lowest * 2**number for number in range(4)]


FORMS = [
    Form("adamw", "adamw", ENTRIES["adamw"].fixed, 1e-3),
    Form("adamw_clip", "adamw", ENTRIES["adamw_clip"].fixed, 1e-3),
    Form("short", "dope", SHORT, 0.75e-3),
    Form("preset", "dope", {"preset": "tuned"}, 0.75e-3),
    Form("preset, neither", "dope", {"preset": "tuned", **PLAIN}, 0.75e-3),
]
OTHER_BUDGETS = [("short", STEPS // 2), ("short", STEPS * 2 // 3), ("adamw", 2 * STEPS)]
GOALS = ["adamw", "adamw_clip"]


@cache
def enlarged() -> Task:
    """docs-gpt with the lead's network, windows (whose length the module holds) and batches; the text and splits stay."""
    docs_gpt.CONTEXT, docs_gpt.BATCH = CONTEXT, BATCH
    task = docs_gpt.docs_gpt_task()
    characters = cast(GPT, task.build()).tokens.num_embeddings
    return replace(
        task,
        name="docs-gpt-large",
        summary=f"next character of Python's documentation, {LAYERS}-layer GPT",
        build=lambda: GPT(characters, CONTEXT, WIDTH, HEADS, LAYERS),
        budget=STEPS,
    )


def contract(form: Form, rate: float, steps: int, tuning: Sequence[int], final: Sequence[int]) -> Contract:
    """A study of one form at one learning rate and budget; the warm-up is always `WARMUP` steps."""
    entry = Entry(name=form.name, rule=form.rule, fixed=form.fixed, space={}, schedule=Schedule(warmup=WARMUP / steps))
    return Contract(
        suite="lead",
        tasks=[task_terms(enlarged()).model_copy(update={"budget": steps})],
        optimizers=[EntryTerms(entry=entry, points=[{"lr": rate}])],
        trials=1,
        tuning_seeds=list(tuning),
        final_seeds=list(final),
        evaluations=4,
    )


def finish(study: Contract, name: str) -> Cell:
    """Do the runs that a study has left and return its cell."""
    store = Store.create(STORE / name, study)
    while left := ready(study, store.finished()):
        for config in left:
            folder = store.run(config)
            folder.begin(config, environment())
            result = train(config, enlarged(), folder.add, stop=lambda: False)
            assert result is not None, "only a stopped run has no result"
            folder.finish(result)
            print(f"{name} {config.seed}: {result.state} {result.value} {result.seconds:.0f} s", flush=True)
    [cell] = Analysis.of(store).cells
    return cell


def tried(form: Form, rate: float) -> Cell:
    """A form's run on the tuning seed."""
    return finish(contract(form, rate, STEPS, [TUNING_SEED], []), f"{form.name}/tuning-{rate:.4g}")


def run_of(cell: Cell) -> float:
    """The validation loss of a tuning run; a failure is infinitely bad."""
    value = cell.tuning[0].result.value
    return float("inf") if value is None else value


def tune(form: Form) -> dict[float, Cell]:
    """Try a form's learning rates, and further ones while the best is at an end."""
    found = {rate: tried(form, rate) for rate in form.rates}
    while (best := best_rate(found)) in (ends := (min(found), max(found))) and len(found) < MOST_RATES:
        rate = best / 2 if best == ends[0] else best * 2
        found[rate] = tried(form, rate)
    return found


def best_rate(found: dict[float, Cell]) -> float:
    """The learning rate with the lowest validation loss."""
    return min(found, key=lambda rate: run_of(found[rate]))


def final(form: Form, rate: float, steps: int = STEPS) -> Cell:
    """A form at its tuned learning rate on the fresh seeds."""
    return finish(contract(form, rate, steps, [], FRESH), f"{form.name}/final-{rate:.4g}-{steps}")


@dataclass(frozen=True)
class Found:
    """A form's runs: by learning rate on the tuning seed, and the best one by budget on the fresh seeds."""

    form: Form
    tuning: dict[float, Cell]
    finals: dict[int, Cell]

    @classmethod
    def of(cls, form: Form) -> "Found":
        """Tune a form and run its best learning rate."""
        tuning = tune(form)
        budgets = [STEPS, *(steps for name, steps in OTHER_BUDGETS if name == form.name)]
        return cls(form, tuning, {steps: final(form, best_rate(tuning), steps) for steps in budgets})

    @property
    def whole(self) -> Cell:
        """The final runs at the lead's budget."""
        return self.finals[STEPS]

    @property
    def runs(self) -> list[Run]:
        """Every run."""
        cells = [*self.tuning.values(), *self.finals.values()]
        return [run for cell in cells for run in cell.tuning + cell.finals]

    def row(self, goals: Sequence[Cell]) -> list[str]:
        """The form's row of the first table."""
        rate = best_rate(self.tuning)
        edge = " at the edge" if rate in (min(self.tuning), max(self.tuning)) else ""
        seeds = ", ".join(f"{loss:.3f}" for loss in losses(self.whole))
        mean = f"{sum(losses(self.whole)) / len(FRESH):.3f}"
        differences = ["–" if goal is self.whole else say_loss_difference(self.whole, goal) for goal in goals]
        return [self.form.name, f"{rate:.2g}{edge}", f"{run_of(self.tuning[rate]):.3f}", mean, seeds, *differences]


def final_table(found: dict[str, Found]) -> str:
    """Losses of every form at the lead's budget and paired differences."""
    goals = [found[name].whole for name in GOALS]
    columns = ["form", "lr", "tuning seed", "mean", "seeds", *(f"below {name}" for name in GOALS)]
    heading = f"The lead's setting: validation loss, nats a character, {STEPS} steps, {len(FRESH)} fresh seeds"
    return table(heading, columns, [form.row(goals) for form in found.values()])


def budget_table(found: dict[str, Found]) -> str:
    """Losses at other budgets, and paired differences from the other kind's at the lead's budget."""
    rows: list[list[str]] = []
    for name, steps in OTHER_BUDGETS:
        cell = found[name].finals[steps]
        others = [found[other].whole for other in ("adamw", "adamw_clip", "short", "preset")]
        mean = f"{sum(losses(cell)) / len(FRESH):.3f}"
        rows.append([f"{name}, {steps} steps", mean, *(say_loss_difference(cell, other) for other in others)])
    columns = ["run", "mean", *(f"below {name}, {STEPS}" for name in ("adamw", "adamw_clip", "short", "preset"))]
    return table("The same at other budgets", columns, rows)


def parts_to(goals: Cell, one: Found) -> list[float]:
    """By seed, the part of the lead's budget at which a form has the final loss of another."""
    curve = [(steps / STEPS, one.finals[steps]) for steps in sorted(one.finals)]
    return [part_reaching(goal, seed) for goal, seed in zip(losses(goals), by_seed(curve), strict=True)]


def say_parts(goals: Cell, one: Found, fewer: bool) -> str:
    """How many times more steps, or fewer, a form takes to the final loss of another."""
    if len(one.finals) == 1:
        return "not run"
    found = parts_to(goals, one)
    return say_ratio([1 / part for part in found] if fewer else found, (1.0, 2.0))


def step_table(found: dict[str, Found]) -> str:
    """Ratios of steps, from the side of DOPE and from AdamW's."""
    pairs = [("short", "adamw"), ("short", "adamw_clip"), ("preset", "adamw")]
    rows = [
        [form, goal, say_parts(found[goal].whole, found[form], True), say_parts(found[form].whole, found[goal], False)]
        for form, goal in pairs
    ]
    columns = ["form", "AdamW", "times fewer steps to AdamW's loss", "times more that AdamW takes to the form's"]
    return table("Ratios of steps, between the budgets that were run (1 to 2)", columns, rows)


def tuning_table(found: dict[str, Found]) -> str:
    """What tuning saw."""
    rows = [
        [name, ", ".join(f"{run_of(one.tuning[rate]):.3f} ({rate:.2g})" for rate in sorted(one.tuning))]
        for name, one in found.items()
    ]
    return table(f"Learning rates tried, seed {TUNING_SEED}", ["form", "validation loss (learning rate)"], rows)


def write_runs(path: Path, runs: Sequence[Run]) -> None:
    """Write every run, one a line."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["form", "phase", "seed", "lr", "steps", "state", "loss", "test"])
        for run in runs:
            config, result = run.config, run.result
            setting = (config.optimizer, config.phase, config.seed, f"{config.point['lr']:.4g}", config.budget)
            numbers = ("" if x is None else f"{x:.6g}" for x in (result.loss, result.test))
            writer.writerow([*setting, result.state, *numbers])


def main() -> None:
    torch.set_num_threads(1)
    found = {form.name: Found.of(form) for form in FORMS}
    write_runs(HERE / "lead.csv", [run for one in found.values() for run in one.runs])
    print("\n".join([final_table(found), budget_table(found), step_table(found), tuning_table(found)]))


if __name__ == "__main__":
    main()
