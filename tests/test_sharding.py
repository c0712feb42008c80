"""Two processes take the steps of one, with sharded parameters (FSDP2) and with copies of them (DDP)."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_options import OPTIONS
from torch import Tensor, nn

import thalweg
from thalweg.conformance import SPECS
from thalweg.conformance.checks import ROUNDING, Case
from thalweg.conformance.sharded import in_two_processes, sharded
from thalweg.core import sharding

PLAIN = [spec for spec in SPECS if not spec.kwargs]

FORMS: list[dict[str, Any]] = [
    {"name": "adamw", "clip": 0.1, "run": "foreach"},
    {"name": "adamw", "clip": 0.1, "run": "compiled"},
    {"name": "sgd", "momentum": 0.9, "nonfinite": "skip", "run": "foreach"},
    {"name": "rmsprop", "clip": ("value", 0.01), "run": "each"},
    {"name": "nadam", "clip": ("adaptive", 0.1), "centralize": 1.0, "cautious": True, "nonfinite": "skip"},
]


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 150), nn.Tanh(), nn.Linear(150, 130), nn.Tanh(), nn.Linear(130, 1)).double()


def make(model: nn.Module, form: dict[str, Any]) -> torch.optim.Optimizer:
    options = dict(form)
    return thalweg.create(options.pop("name"), model.named_parameters(), lr=0.01, **options)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, rank: int = 0, processes: int = 1) -> None:
    """Each process sees its part of the batch; step 3 has a gradient that is not finite, if the optimizer skips it."""
    batches = torch.randn(10, 16, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for step in steps:
        optimizer.zero_grad()
        loss = model(batches[step].chunk(processes)[rank]).square().mean()
        loss.backward()
        if step == 3 and optimizer.param_groups[0]["nonfinite"] == "skip":
            for p in list(model.parameters())[:1]:
                assert p.grad is not None
                p.grad.mul_(float("nan"))
        optimizer.step()


def shard(model: nn.Sequential) -> nn.Sequential:
    from torch.distributed.fsdp import fully_shard

    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    return model


def whole(model: nn.Module) -> list[Tensor]:
    return [sharding.whole(p).detach() for p in model.parameters()]


def one_process(form: dict[str, Any], steps: int = 6) -> list[Tensor]:
    model = build()
    train(model, make(model, form), range(steps))
    return whole(model)


def agree(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


def fsdp(rank: int) -> list[list[Tensor]]:
    trained: list[list[Tensor]] = []
    for form in FORMS:
        model = shard(build())
        train(model, make(model, form), range(6))
        trained.append(whole(model))
    return trained


def ddp(rank: int) -> list[list[Tensor]]:
    trained: list[list[Tensor]] = []
    for form in FORMS:
        model = nn.parallel.DistributedDataParallel(build())
        train(model, make(model, form), range(6), rank, 2)
        trained.append(whole(model))
    return trained


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("work", [fsdp, ddp])
def test_two_processes_equal_one(work: Callable[..., Any]) -> None:
    expected = [one_process(form) for form in FORMS]
    for trained in in_two_processes(work):
        for form, ours, theirs in zip(FORMS, trained, expected, strict=True):
            assert agree(ours, theirs), form


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_rule_and_option_on_shards_equals_one_process() -> None:
    """Rows shared out unevenly, a process that holds nothing of a parameter, bfloat16's noise: see SHARDABLE.

    Each pair in one of the four ways to run it, each rule and each option in all of them: a case takes half a second.
    """
    ways = itertools.product(("each", "foreach"), (torch.float32, torch.bfloat16))
    pairs = itertools.product(PLAIN, [*OPTIONS, {"nonfinite": "skip", "clip": 0.1}])
    cases = [
        Case(replace(spec, kwargs=spec.kwargs | options), *way)
        for (spec, options), way in zip(pairs, itertools.cycle(list(ways)), strict=False)
    ]
    for case, error in zip(cases, sharded(cases), strict=True):
        assert error <= ROUNDING[case.dtype], case


def not_finite_on_one(rank: int) -> str:
    model = shard(build())
    train(model, optimizer := make(model, {"name": "adamw", "nonfinite": "raise"}), range(2))
    if rank == 1:
        next(model.parameters()).grad.to_local().fill_(float("inf"))  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError) as raised:
        optimizer.step()
    return str(raised.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_gradient_that_is_not_finite_on_one_process_raises_on_both() -> None:
    for message in in_two_processes(not_finite_on_one):
        assert "the gradient of '0.weight'" in message


CARRIED: list[dict[str, Any]] = [FORMS[0], FORMS[4], {"name": "sgd", "momentum": 0.9}]


def carried(rank: int, folder: str) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Six steps; and three, a checkpoint of the shards, a new model and optimizer, and three."""
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load
    from torch.distributed.checkpoint.state_dict_saver import save

    pairs: list[tuple[list[Tensor], list[Tensor]]] = []
    for i, form in enumerate(CARRIED):
        model = shard(build())
        train(model, optimizer := make(model, form), range(3))
        states = dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))
        save(states, checkpoint_id=f"{folder}/{i}")
        train(model, optimizer, range(3, 6))

        other = shard(build())
        again = make(other, form)
        states = dict(zip(("model", "optimizer"), get_state_dict(other, again), strict=True))
        load(states, checkpoint_id=f"{folder}/{i}")
        set_state_dict(other, again, model_state_dict=states["model"], optim_state_dict=states["optimizer"])
        train(other, again, range(3, 6))
        pairs.append((whole(model), whole(other)))
    return pairs


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_shards_resume_to_the_bit_through_a_distributed_checkpoint(tmp_path: Path) -> None:
    for rank in in_two_processes(carried, str(tmp_path)):
        assert all(torch.equal(a, b) for pair in rank for a, b in zip(*pair, strict=True))


def taken_over(rank: int, saved: list[Any]) -> list[list[Tensor]]:
    trained: list[list[Tensor]] = []
    for form, (weights, state) in zip(CARRIED, saved, strict=True):
        model = build()
        model.load_state_dict(weights)
        model = shard(model)
        optimizer = make(model, form)
        optimizer.load_state_dict(state)
        train(model, optimizer, range(3, 6))
        trained.append(whole(model))
    return trained


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_checkpoint_of_one_process_is_spread_over_two() -> None:
    saved: list[Any] = []
    for form in CARRIED:
        model = build()
        train(model, optimizer := make(model, form), range(3))
        saved.append((copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())))
    for trained in in_two_processes(taken_over, saved):
        for form, ours in zip(CARRIED, trained, strict=True):
            assert agree(ours, one_process(form)), form
