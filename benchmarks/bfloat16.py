"""bfloat16 weights rounded at random, and to the nearest, beside float32: one command makes the table of bfloat16.md.

    python benchmarks/bfloat16.py

Learning rates are the ones that ablation.py tuned, read from ablation.csv. Only the storage of the weights differs: every
network computes in float32 from its stored weights, so no other bfloat16 noise takes part, and float32 starts from the same
rounded weights.
"""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from ablation import FORMS, HEADING, table
from torch import Tensor, nn

from thalweg.lab.records import RunConfig
from thalweg.lab.run import train
from thalweg.lab.space import Entry
from thalweg.lab.statistics.paired import student_interval
from thalweg.lab.tasks import Task, load_task

HERE = Path(__file__).parent
SEEDS = {"digits-mlp": range(2000, 2024), "docs-gpt": range(2000, 2006)}
"""By task: the loss of digits-mlp varies by per cents from rounding to rounding, that of docs-gpt by tenths."""
ENTRIES = [entry for entry in FORMS if entry.name in ("adamw", "lean, not cautious")]
FACTORS = (1.0, 0.1, 0.01)
"""Of the tuned learning rate; the smaller, the more updates are below half a unit in the last place of a weight."""
MEANING = 1.0
"""Per cent of float32's loss that count as following it."""

Storage = Literal["float32", "stochastic", "nearest"]


class Stored(nn.Module):
    """A network that keeps its weights in bfloat16 and computes with them in float32."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.to(torch.bfloat16)

    def forward(self, inputs: Tensor) -> Tensor:
        wide = {name: parameter.float() for name, parameter in self.network.named_parameters()}
        return torch.func.functional_call(self.network, wide, (inputs,))


def stored(task: Task, storage: Storage) -> Task:
    """The task with its network's weights stored so; all three begin at the same numbers."""
    if storage == "float32":
        return replace(task, build=lambda: task.build().to(torch.bfloat16).float())
    return replace(task, build=lambda: Stored(task.build()))


def tuned_lr(form: str, task: str) -> float:
    """The learning rate that the ablation selected."""
    with (HERE / "ablation.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["phase"] == "final"]
    return float(next(row["lr"] for row in rows if (row["form"], row["task"]) == (form, task)))


def final_loss(entry: Entry, task: Task, lr: float, storage: Storage, seed: int) -> float:
    """Train once and return the validation loss at the end; a run that ends worse than it began counts as it ended."""
    config = RunConfig(
        study="bfloat16",
        task=task.name,
        optimizer=entry.name,
        rule=entry.rule,
        phase="final",
        trial=0,
        seed=seed,
        point={"lr": lr},
        keywords=entry.keywords({"lr": lr}) | {"precision": "nearest" if storage == "nearest" else "stochastic"},
        schedule=entry.schedule,
        budget=task.budget,
        evaluations=1,
        diverged_above=100.0,
        timeout_seconds=3600.0,
    )
    curve: list[float | None] = []
    train(config, stored(task, storage), lambda point: curve.append(point.validation_loss), lambda: False)
    loss = curve[-1]
    assert loss is not None
    return loss


def say_off(losses: np.ndarray, reference: np.ndarray) -> str:
    """How many per cent a loss is off float32's, paired by seed, and what that means."""
    found = student_interval(100 * (losses / reference - 1), 0.95)
    follows = max(abs(found.low), abs(found.high)) <= MEANING
    differs = min(abs(found.low), abs(found.high)) > MEANING and found.low * found.high > 0
    verdict = "within" if follows else "off" if differs else "?"
    return f"{found.middle:+.2f} [{found.low:+.2f}, {found.high:+.2f}] {verdict}".replace("-", "−")


def row(entry: Entry, task: Task, factor: float) -> list[str]:
    """One line of the table."""
    lr = tuned_lr(entry.name, task.name) * factor

    def losses(storage: Storage) -> np.ndarray:
        return np.array([final_loss(entry, task, lr, storage, seed) for seed in SEEDS[task.name]])

    wide, random, nearest = losses("float32"), losses("stochastic"), losses("nearest")
    numbers = [f"{wide.mean():.4f}", say_off(random, wide), say_off(nearest, wide)]
    print(task.name, entry.name, f"{lr:.3g}", *numbers, flush=True)
    return [f"{task.name}, {len(SEEDS[task.name])} seeds", entry.name, f"{lr:.2g}", *numbers]


def main() -> None:
    torch.set_num_threads(1)
    rows = [row(entry, load_task(task), factor) for task in SEEDS for entry in ENTRIES for factor in FACTORS]
    heading = "Per cent off float32's validation loss, 95 % intervals, paired by seed"
    columns = ["task", "optimizer", "lr", "float32 loss", "rounded at random", "rounded to the nearest"]
    page = HERE / "bfloat16.md"
    written_by_hand = page.read_text(encoding="utf-8").partition(HEADING)[0]
    page.write_text(f"{written_by_hand}{HEADING}\n{table(heading, columns, rows)}", encoding="utf-8")


if __name__ == "__main__":
    main()
