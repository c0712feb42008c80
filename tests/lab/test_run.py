"""One run: against a plain torch loop, twice, paired, charged, failing."""

import dataclasses
import math
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from thalweg.curvature import GaussNewton
from thalweg.lab.contract import draw_up
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.run import Trainer, execute, state_bytes, train
from thalweg.lab.space import ENTRIES
from thalweg.lab.store import RunFolder
from thalweg.lab.study import ready
from thalweg.lab.tasks import Task, load_task

STEPS = 40


def config(optimizer: str = "adamw", task: str = "digits-mlp", **changes: Any) -> RunConfig:
    contract = draw_up("tasks", [task], [ENTRIES[optimizer]], trials=8, seeds=1)
    run = sorted(ready(contract, {}), key=lambda run: run.point["lr"])[4]
    return run.model_copy(update={"budget": STEPS, "evaluations": 4, **changes})


def run(configuration: RunConfig, task: Task | None = None) -> tuple[list[CurvePoint], Result]:
    curve: list[CurvePoint] = []
    result = train(configuration, task or load_task(configuration.task), curve.append, lambda: False)
    assert result is not None
    return curve, result


def timeless(found: tuple[list[CurvePoint], Result]) -> list[dict[str, Any]]:
    return [model.model_dump(exclude={"seconds"}) for model in [*found[0], found[1]]]


@pytest.mark.parametrize("task", ["digits-mlp", "digits-cnn", "digits-autoencoder", "docs-gpt"])
def test_the_same_run_twice_is_bit_identical(task: str) -> None:
    assert timeless(run(config(task=task, budget=8))) == timeless(run(config(task=task, budget=8)))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("momentum", lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9)),
        ("nesterov", lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True)),
        ("adamw", lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr)),
        ("rmsprop", lambda parameters, lr: torch.optim.RMSprop(parameters, lr=lr)),
    ],
)
def test_a_run_is_the_loop_one_would_write_with_torch(name: str, make: Any) -> None:
    configuration, task = config(name), load_task("digits-mlp")
    model, batches = task.model(configuration.seed), task.batches(configuration.seed)
    optimizer = make(model.parameters(), configuration.point["lr"])
    for step in range(STEPS):
        progress = (step + 1) / (STEPS + 1)
        warm = progress / 0.05 if progress < 0.05 else (1 + math.cos(math.pi * (progress - 0.05) / 0.95)) / 2
        optimizer.param_groups[0]["lr"] = configuration.point["lr"] * warm
        inputs, targets = next(batches)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    expected = torch.nn.functional.cross_entropy(model(task.validation[0]), task.validation[1]).item()
    curve, result = run(configuration)
    assert result.state == "ok"
    assert result.loss == pytest.approx(expected, rel=1e-4)
    assert [point.charged for point in curve] == [0, 10, 20, 30, 40]
    assert (result.value, result.loss) == (curve[-1].validation, curve[-1].validation_loss)


def test_all_optimizers_of_a_seed_start_and_see_the_same() -> None:
    trainers = [Trainer(config(name), load_task("digits-mlp")) for name in ("adamw", "sgd", "rmsprop")]
    first = trainers[0]
    for other in trainers[1:]:
        for mine, yours in zip(first.model.parameters(), other.model.parameters(), strict=True):
            assert torch.equal(mine, yours)
    for _ in range(3):
        for trainer in trainers:
            trainer.step()
        assert all(torch.equal(first.batch[0], other.batch[0]) for other in trainers[1:])


def test_every_gradient_of_a_line_search_is_charged() -> None:
    _, result = run(config("lbfgs"))
    assert result.steps < result.charged
    assert ENTRIES["lbfgs"].fixed["max_iter"] == 4
    assert STEPS <= result.charged <= STEPS + 5  # torch allows a step 1.25 × max_iter evaluations


@pytest.mark.parametrize("task", ["digits-mlp", "digits-autoencoder"])
def test_every_value_gradient_and_product_is_charged(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Counter[str]()
    product = GaussNewton.matvec

    def counted(self: GaussNewton, v: torch.Tensor) -> torch.Tensor:
        calls["products"] += 1
        return product(self, v)

    monkeypatch.setattr(GaussNewton, "matvec", counted)
    trainer = Trainer(config("newton_cg", task=task), load_task(task))
    trainer.model.register_forward_hook(lambda *_: calls.update(forward=1))
    for step in range(1, 6):
        trainer.step()
        # A gradient is a forward pass and two thirds more; a value is a forward pass.
        assert trainer.charged == Fraction(calls["forward"], 3) + Fraction(2, 3) * step + 2 * calls["products"]
    assert calls["products"] > 5
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_a_newton_run_ends_near_its_budget_and_is_the_same_twice() -> None:
    curve, result = run(config("newton_cg"))
    assert result.state == "ok"
    assert STEPS <= result.charged < STEPS + 1 + 2 * 3 + 4 / 3
    assert Result.model_validate_json(result.model_dump_json()) == result
    assert timeless(run(config("newton_cg"))) == timeless((curve, result))


def test_a_point_that_its_policy_warns_of_is_tried_without_a_word(tmp_path: Path) -> None:
    """Here a warning would be an error: see pyproject.toml."""
    configuration = config("dcao_exponential", budget=4, point={"lr": 1e-3})
    result = execute(configuration, RunFolder(tmp_path / "run"), lambda: False)
    assert result is not None
    assert result.state == "ok"


def test_whole_charges_are_written_as_whole_numbers() -> None:
    curve, result = run(config("adamw"))
    assert all(type(point.charged) is int for point in [*curve, result])
    assert '"charged":40,' in result.model_dump_json()


def test_a_run_that_diverges_stops_and_has_no_value() -> None:
    high = config("sgd", task="docs-gpt", point={"lr": 1e6}, keywords={"lr": 1e6})
    curve, result = run(high)
    assert result.state == "diverged"
    assert result.value is None
    assert result.steps < STEPS
    assert "training loss" in result.message
    assert curve[0].step == 0


def test_a_run_that_ends_worse_than_it_began_diverged() -> None:
    task = load_task("digits-mlp")
    worse = dataclasses.replace(task, loss=lambda outputs, targets: 10 - task.loss(outputs, targets))
    _, result = run(config("sgd", budget=8, keywords={"lr": 0.01}, diverged_above=1e9), task)
    assert result.state == "ok"
    _, result = run(config("sgd", budget=8, keywords={"lr": 0.01}), worse)
    assert result.state == "ok", "this loss falls"
    upside_down = dataclasses.replace(task, sample=lambda *how: ((x, 9 - y) for x, y in task.sample(*how)))
    _, result = run(config("sgd", keywords={"lr": 0.3}), upside_down)
    assert (result.state, result.value) == ("diverged", None)
    assert "worse than the untrained network" in result.message


def test_only_final_runs_read_the_test_split() -> None:
    assert run(config(budget=4))[1].test is None
    assert run(config(budget=4, phase="final"))[1].test is not None


def test_a_run_stops_when_it_is_told_and_when_its_time_is_up(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert execute(config(), folder, lambda: True) is None
    assert not (tmp_path / "run" / "result.json").exists()
    assert run(config(timeout_seconds=1e-9))[1].state == "timeout"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ValueError("broken"), "crashed"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "out of memory"),
    ],
)
def test_an_error_is_the_runs_result(
    error: Exception, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, preset: None) -> Task:
        raise error

    monkeypatch.setattr("thalweg.lab.run.load_task", fail)
    result = execute(config(), RunFolder(tmp_path / "run"), lambda: False)
    assert result is not None
    assert result.state == state
    assert type(error).__name__ in result.message
    assert Result.model_validate_json((tmp_path / "run" / "result.json").read_bytes()) == result


def test_state_bytes_are_those_of_the_buffers() -> None:
    _, result = run(config("momentum"))
    assert result.state_bytes_per_parameter == pytest.approx(4, abs=0.1)
    assert run(config("sgd"))[1].state_bytes_per_parameter == pytest.approx(0, abs=0.1)
    assert state_bytes(torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=1)) == 0
