"""A speed-up that was planted in a real training run is found; two copies of one optimizer are not told apart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thalweg.lab import run as running
from thalweg.lab.analysis import Analysis
from thalweg.lab.contract import Contract, EntryTerms, task_terms
from thalweg.lab.run import Trainer, execute
from thalweg.lab.space import ENTRIES
from thalweg.lab.statistics.paired import compare
from thalweg.lab.statistics.speedup import speed_up
from thalweg.lab.store import Store
from thalweg.lab.study import ready
from thalweg.lab.tasks import load_task

TARGETS = (70.0, 80.0, 85.0, 90.0)
"""Of the accuracy, frozen before any run here: AdamW passes them between 15 and 80 of 300 gradients."""
FREE = 10


class FreeTrainer(Trainer):
    """A trainer that charges nothing for every tenth step of "free"."""

    def step(self) -> float:
        before = self.charged
        loss = super().step()
        if self.config.optimizer == "free" and self.steps % FREE == 0:
            self.charged = before
        return loss


def study(folder: Path, names: list[str], seeds: int) -> Analysis:
    """Every name is AdamW at one learning rate, on the digits."""
    terms = task_terms(load_task("digits-mlp")).model_copy(update={"targets": TARGETS})
    entries = [
        EntryTerms(entry=ENTRIES["adamw"].model_copy(update={"name": name}), points=[{"lr": 0.01}]) for name in names
    ]
    contract = Contract(
        suite="tasks", tasks=[terms], optimizers=entries, trials=1, tuning_seeds=[0],
        final_seeds=list(range(1000, 1000 + seeds)), evaluations=30,
    )  # fmt: skip
    store = Store.create(folder, contract)
    never: Callable[[], bool] = lambda: False  # noqa: E731
    while configs := ready(contract, store.finished()):
        for config in configs:
            execute(config, store.run(config), never)
    return Analysis.of(store)


@pytest.mark.slow
def test_a_tenth_of_the_steps_for_free_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "Trainer", FreeTrainer)
    analysis = study(tmp_path / "study", ["adamw", "free"], 20)
    found = analysis.speed_up(analysis.cell("digits-mlp", "free"), "adamw")
    assert found is not None
    print(found)
    assert found.ratio.low > 1
    assert found.verdict == "better"
    assert found.ratio.low < 10 / 9 + 0.05


def test_two_names_of_one_optimizer_are_a_tie_to_the_bit(tmp_path: Path) -> None:
    analysis = study(tmp_path / "study", ["adamw", "copy"], 6)
    cell = analysis.cell("digits-mlp", "copy")
    found, comparison = analysis.speed_up(cell, "adamw"), analysis.comparison(cell, "adamw")
    assert found is not None
    assert comparison is not None
    assert (found.ratio.low, found.ratio.high, found.verdict) == (1.0, 1.0, "tie")
    assert comparison.verdict == "tie"


@pytest.mark.slow
def test_copies_on_seeds_of_their_own_are_rarely_told_apart(tmp_path: Path) -> None:
    """A hundred studies drawn from the runs of one optimizer on 60 seeds: pairs without anything in common."""
    analysis = study(tmp_path / "study", ["adamw"], 60)
    cell, draw = analysis.cell("digits-mlp", "adamw"), np.random.default_rng(0)
    told, verdicts = 0, list[str]()
    for _ in range(100):
        seeds = draw.permutation(60)
        one, other = seeds[:10], seeds[10:20]
        times = cell.times["charged"].reached
        found = speed_up(times[one], times[other], comparisons=1)
        told += found is not None and not found.ratio.low <= 1 <= found.ratio.high
        verdicts.append(compare(cell.oriented[one], cell.oriented[other], cell.task.margin).verdict)
    print(told, {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}, cell.oriented.std(ddof=1))
    assert told <= 5
    assert sum(verdict in ("better", "worse") for verdict in verdicts) <= 10
