"""Mixed: groups of different rules in one optimizer."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import thalweg
from thalweg.conformance.sharded import in_two_processes
from thalweg.conformance.trial import error, parameters, run_together
from thalweg.core import sharding

SHAPES: list[tuple[int, ...]] = [(6, 5), (5, 6), (4,), (3, 2)]


def build() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Embedding(11, 6), nn.Linear(6, 9), nn.LayerNorm(9), nn.Tanh(), nn.Linear(9, 6), nn.Linear(6, 3)]
    return nn.Sequential(*layers).double()


def groups(params: list[Tensor]) -> list[dict[str, Any]]:
    return [
        {"params": params[:2], "optimizer": "muon", "lr": 0.02, "match": "keller"},
        {"params": params[2:3], "optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.1, "cautious": True},
        {"params": params[3:], "optimizer": "dope", "clip": 0.5, "preset": "tuned"},
    ]


def separate(params: list[Tensor]) -> list[torch.optim.Optimizer]:
    return [thalweg.create(g.pop("optimizer"), g.pop("params"), **g) for g in groups(params)]


def train(model: nn.Module, optimizers: list[torch.optim.Optimizer], steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        model.zero_grad()
        model(torch.randint(0, 11, (16,))).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


def test_equals_one_optimizer_a_group() -> None:
    ours, theirs = parameters(shapes=SHAPES), parameters(shapes=SHAPES)
    mixed, others = thalweg.Mixed(groups(ours)), separate(theirs)
    for seed in range(10):
        run_together([(mixed, ours)], 1, seed)
        for p, q in zip(ours, theirs, strict=True):
            assert p.grad is not None
            q.grad = p.grad.clone()
        for other in others:
            other.step()
    assert error(ours, theirs) == 0


def test_groups_are_filled_as_their_optimizer_fills_them() -> None:
    params = parameters(shapes=SHAPES)
    mixed, others = thalweg.Mixed(groups(params)), separate(params)
    for group, other in zip(mixed.param_groups, others, strict=True):
        assert {n: v for n, v in group.items() if n not in ("params", "optimizer")} == {
            n: v for n, v in other.param_groups[0].items() if n != "params"
        }


def test_a_routed_model_trains_resumes_and_follows_a_scheduler() -> None:
    model = build()
    routes = thalweg.route(model, rest_options={"lr": 0.01})
    optimizer = thalweg.Mixed(routes)
    assert {group["optimizer"] for group in optimizer.param_groups} == {"muon", "adamw"}
    schedule = CosineAnnealingLR(optimizer, 10)
    for step in range(5):
        train(model, [optimizer], range(step, step + 1))
        schedule.step()
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other = build()
    other.load_state_dict(weights)
    again = thalweg.Mixed(thalweg.route(other))
    again.load_state_dict(state)
    train(model, [optimizer], range(5, 9))
    train(other, [again], range(5, 9))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_copies_and_option_defaults() -> None:
    params = parameters(shapes=SHAPES)
    optimizer = thalweg.Mixed(groups(params))
    run_together([(optimizer, params)], 2)
    copied, twins = copy.deepcopy((optimizer, params))
    run_together([(optimizer, params), (copied, twins)], 3)
    assert error(params, twins) == 0
    state = optimizer.__getstate__()
    for group in state["param_groups"]:
        del group["diagnostics"]  # a pickle from before there was such an option
    copied.__setstate__(state)
    assert all(group["diagnostics"] is False for group in copied.param_groups)


def test_the_global_norm_is_of_all_groups() -> None:
    ours, theirs = parameters(shapes=[(3, 2), (5,)]), parameters(shapes=[(3, 2), (5,)])
    mixed = thalweg.Mixed(
        [
            {"params": ours[:1], "optimizer": "sgd", "lr": 0.1, "clip": 1.0},
            {"params": ours[1:], "optimizer": "rmsprop", "lr": 0.1, "clip": 1.0},
        ]
    )
    others = [torch.optim.SGD(theirs[:1], lr=0.1), torch.optim.RMSprop(theirs[1:], lr=0.1)]
    for seed in range(3):
        run_together([(mixed, ours)], 1, seed)
        for p, q in zip(ours, theirs, strict=True):
            assert p.grad is not None
            q.grad = p.grad.clone()
        nn.utils.clip_grad_norm_(theirs, 1.0)
        for other in others:
            other.step()
    assert error(ours, theirs) <= 1e-12


def test_an_average_in_one_group() -> None:
    params = parameters(shapes=SHAPES)
    optimizer = thalweg.Mixed([{**g, **({"average": "ema"} if i == 1 else {})} for i, g in enumerate(groups(params))])
    run_together([(optimizer, params)], 3)
    kept = [p.detach().clone() for p in params]
    with optimizer.evaluation():
        assert [torch.equal(p, k) for p, k in zip(params, kept, strict=True)] == [True, True, False, True]
        with pytest.raises(RuntimeError, match="evaluation mode"):
            optimizer.step()
    assert all(torch.equal(p, k) for p, k in zip(params, kept, strict=True))


def sharded(rank: int) -> list[Tensor]:
    from torch.distributed.fsdp import fully_shard

    model = build()
    for layer in (model[1], model[4]):
        fully_shard(layer)
    fully_shard(model)
    train(model, [thalweg.Mixed(thalweg.route(model))], range(4))
    return [sharding.whole(p).detach() for p in model.parameters()]


def test_two_processes_take_the_steps_of_one() -> None:
    model = build()
    train(model, [thalweg.Mixed(thalweg.route(model))], range(4))
    for found in in_two_processes(sharded):
        assert error(found, [p.detach() for p in model.parameters()]) <= 1e-12


@pytest.mark.parametrize(
    ("group", "raised", "message"),
    [
        ({"optimizer": "adamx"}, ValueError, "Mixed: optimizer='adamx' is unknown; choose one of"),
        ({}, ValueError, "Mixed: optimizer=None"),
        ({"optimizer": "lbfgs"}, ValueError, "Mixed: optimizer='lbfgs'"),
        ({"optimizer": "adamw", "lr": -1.0}, ValueError, "AdamW: lr=-1.0"),
        ({"optimizer": "adamw", "betaz": (0.9, 0.99)}, TypeError, "AdamW: unknown argument 'betaz'"),
        ({"optimizer": "sgd", "momentum": 0.9, "nesterov": "lookahead"}, ValueError, "nesterov='lookahead' of SGD"),
        ({"optimizer": "mars", "exact": True}, ValueError, "exact=True of MARS"),
    ],
)
def test_wrong_groups_are_named_and_nothing_is_added(group: dict[str, Any], raised: Any, message: str) -> None:
    params = parameters(shapes=SHAPES)
    optimizer = thalweg.Mixed(groups(params[:2] + params[2:]))
    before = len(optimizer.param_groups)
    with pytest.raises(raised) as error_raised:
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))], **group})
    assert message in str(error_raised.value)
    assert len(optimizer.param_groups) == before


def test_parameters_are_no_groups() -> None:
    with pytest.raises(TypeError, match="needs groups"):
        thalweg.Mixed(parameters(shapes=SHAPES))  # type: ignore[arg-type]


def test_a_parameter_of_two_groups_is_refused() -> None:
    (p,) = parameters(shapes=[(3, 2)])
    with pytest.raises(ValueError, match="more than one parameter group"):
        thalweg.Mixed([{"params": [p], "optimizer": "muon"}, {"params": [p], "optimizer": "adamw"}])


def test_the_state_of_another_rule_is_refused() -> None:
    params = parameters(shapes=[(3, 2)])
    saved = thalweg.Mixed([{"params": params, "optimizer": "adamw"}]).state_dict()
    other = thalweg.Mixed([{"params": params, "optimizer": "saveus"}])
    with pytest.raises(ValueError, match="group 0 follows saveus; it was saved under adamw"):
        other.load_state_dict(saved)


def test_distributed_checkpoints_continue() -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    model, other = build(), build()
    optimizer, again = (thalweg.Mixed(thalweg.route(m)) for m in (model, other))
    train(model, [optimizer], range(3))
    state = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    other.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other, again, state)
    train(model, [optimizer], range(3, 6))
    train(other, [again], range(3, 6))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_a_gradient_scaler_skips_all_groups() -> None:
    params = parameters(shapes=SHAPES)
    optimizer = thalweg.Mixed(groups(params))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    run_together([(optimizer, params)], 2)
    kept = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.full_like(p, torch.inf)
    scaler.scale(torch.zeros(()))  # as a loss is scaled
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0
    assert all(torch.equal(p, k) for p, k in zip(params, kept, strict=True))
