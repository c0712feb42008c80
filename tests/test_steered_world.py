"""DCAO and HiDLR where they are used: schedules, groups, scalers, accumulation, several processes, resumed runs, bad input."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler
from torch.utils._pytree import tree_leaves

import thalweg
from thalweg.conformance.sharded import in_two_processes
from thalweg.control import CDAT, DCAO, Edge, HiDLR, Steered, steered
from thalweg.control.probe import Probe
from thalweg.core.sharding import whole

x = torch.randn(24, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
y = torch.randn(24, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def network(*extra: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), *extra, nn.Linear(6, 3))


def batch_losses(model: nn.Module, steps: int) -> list[Callable[[], Tensor]]:
    g = torch.Generator().manual_seed(3)
    rows = [torch.randint(24, (8,), generator=g) for _ in range(steps)]
    dtype = next(model.parameters()).dtype
    return [lambda i=i: F.mse_loss(model(x[i].to(dtype)), y[i].to(dtype)) for i in rows]


def train(optimizer: Any, losses: list[Callable[[], Tensor]], after: Callable[[], Any] = lambda: None) -> None:
    for loss_fn in losses:
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step(loss_fn) if isinstance(optimizer, Steered) else optimizer.step()
        after()


def trace(*things: Any) -> list[Any]:
    """All that training depends on, to the byte."""
    leaves = tree_leaves([thing.state_dict() if hasattr(thing, "state_dict") else thing for thing in things])
    return [x.detach().view(torch.uint8).tolist() if isinstance(x, Tensor) and x.ndim else repr(x) for x in leaves]


def state_of(model: nn.Module, optimizer: Steered) -> list[Any]:
    gradients = [p.grad for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    held = [optimizer.steps, list(optimizer.history), random.getstate()]
    return trace(model, optimizer, gradients, modes, held, torch.get_rng_state())


# Schedules, groups, parameters.


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: abs(math.sin(t / 5)) * 2),
    "one cycle, momentum too": lambda o: lr_scheduler.OneCycleLR(o, [6.0, 3.0], total_steps=60),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, 0.1, total_iters=9), lr_scheduler.ExponentialLR(o, 0.95)]
    ),
    "one after the other": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.01, total_iters=20), lr_scheduler.CosineAnnealingLR(o, 40)], [20]
    ),
}


def two_groups(model: nn.Sequential, cls: Any) -> Any:
    return cls([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 2.0}], lr=4.0, momentum=0.9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("cls", [torch.optim.SGD, thalweg.SGD])
def test_a_schedule_is_the_ceiling_and_groups_stay_in_proportion(name: str, cls: Any) -> None:
    """What the schedule says is read off an optimizer of its own; the steps are those of SGD at the rates in history."""
    model = network()
    optimizer = DCAO(base=two_groups(model, cls))
    schedule = SCHEDULES[name](optimizer)
    alone = two_groups(network(), torch.optim.SGD)
    planned = SCHEDULES[name](alone)
    replay_model = network()
    replay = two_groups(replay_model, cls)
    for loss_fn, again in zip(batch_losses(model, 60), batch_losses(replay_model, 60), strict=True):
        train(optimizer, [loss_fn])
        decision = optimizer.history[-1]
        for theirs, group, plain in zip(optimizer.param_groups, alone.param_groups, replay.param_groups, strict=True):
            assert (theirs["lr"], theirs["momentum"]) == (group["lr"], group["momentum"])
            plain["lr"], plain["momentum"] = group["lr"] * decision.factors.get("lr", 1.0), group["momentum"]
        assert decision.asked == max(group["lr"] for group in alone.param_groups)
        assert decision.used <= decision.asked
        train(replay, [again])
        schedule.step()
        alone.step()
        planned.step()
    assert trace(model) == trace(replay_model)
    assert {d.used < d.asked for d in optimizer.history} == {True, False} or name == "chained"


class Langevin(torch.optim.Optimizer):
    """Draws numbers, writes into the gradient, counts in a tensor of its group: nothing forbids any of it."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "count": torch.zeros(())})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            group["count"] += 1
            for p in group["params"]:
                p.grad.mul_(1 / group["count"] ** 0.1)
                self.state[p] = {"last": p.grad.clone()}
                p.sub_(group["lr"] * (p.grad + 1e-3 * torch.randn_like(p)))


def routed(model: nn.Module) -> Any:
    return thalweg.Mixed(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "optimizer": "muon", "lr": 0.5},
            {"params": [p for p in model.parameters() if p.ndim < 2], "optimizer": "adamw", "lr": 0.3},
        ]
    )


BASES: dict[str, Callable[[nn.Module], Any]] = {
    "SGD": lambda m: torch.optim.SGD(m.parameters(), lr=5.0, momentum=0.9),
    "AdamW": lambda m: torch.optim.AdamW(m.parameters(), lr=1.0),
    "AdamW foreach": lambda m: torch.optim.AdamW(m.parameters(), lr=1.0, foreach=True),
    "Muon and AdamW": routed,
    "schedule-free": lambda m: thalweg.AdamWScheduleFree(m.parameters(), lr=1.0),
    "stochastic rounding": lambda m: thalweg.AdamW(m.bfloat16().parameters(), lr=1.0),
    "rounding to nearest": lambda m: thalweg.SGD(m.bfloat16().parameters(), lr=5.0, precision="nearest"),
    "its own noise": lambda m: Langevin(m.parameters(), lr=5.0),
}
STEERINGS: dict[str, Callable[[Any], Steered]] = {
    "edge, sharpness": lambda base: DCAO(base=base, bound="sharpness", cap_every=3),
    "edge, direction": lambda base: DCAO(base=base, bound="direction"),
    "cdat": lambda base: DCAO(base=base, policy="cdat", every=3),
    "hidlr": lambda base: HiDLR(base, every=3),
}


@pytest.mark.parametrize("steering", STEERINGS)
@pytest.mark.parametrize("name", BASES)
def test_the_base_makes_its_own_steps_at_the_rates_decided(name: str, steering: str) -> None:
    """Replayed without measurements, from the factors in history: the same bits, random numbers and state."""
    model = network(nn.Dropout(0.2))
    optimizer = STEERINGS[steering](BASES[name](model))
    torch.manual_seed(5)
    train(optimizer, batch_losses(model, 20))
    after = torch.get_rng_state()
    alone = network(nn.Dropout(0.2))
    base = BASES[name](alone)
    asked = [group["lr"] for group in base.param_groups]
    torch.manual_seed(5)
    for loss_fn, decision in zip(batch_losses(alone, 20), optimizer.history, strict=True):
        factor: Any = decision.factors.get("lr", 1.0)
        for i, (group, lr) in enumerate(zip(base.param_groups, asked, strict=True)):
            group["lr"] = lr * (factor[i] if isinstance(factor, tuple) else factor)
        train(base, [loss_fn])
    for group, lr in zip(base.param_groups, asked, strict=True):
        group["lr"] = lr
    assert trace(model, optimizer.base) == trace(alone, base)
    assert torch.equal(after, torch.get_rng_state())
    assert any(d.factors for d in optimizer.history)
    if isinstance(optimizer.base, thalweg.AdamWScheduleFree):
        with optimizer.base.evaluation(), base.evaluation():
            assert trace(model) == trace(alone)


@pytest.mark.parametrize("steering", STEERINGS)
def test_frozen_parameters_and_those_without_gradients(steering: str) -> None:
    model: Any = network()
    unused = nn.Linear(2, 2)
    model[0].weight.requires_grad_(False)
    before = [p.detach().clone() for p in (model[0].weight, *unused.parameters())]
    optimizer = STEERINGS[steering](
        torch.optim.SGD([*model.parameters(), *unused.parameters()], lr=1.0, weight_decay=0.1)
    )
    train(optimizer, [lambda: F.mse_loss(model(x), y)] * 12)
    assert all(map(torch.equal, before, [model[0].weight, *unused.parameters()]))
    assert all(not d.note for d in optimizer.history)


@pytest.mark.parametrize("steering", STEERINGS)
def test_no_gradients_at_all(steering: str) -> None:
    model = network()
    optimizer = STEERINGS[steering](torch.optim.SGD(model.parameters(), lr=1.0))
    before = trace(model)
    for loss_fn in batch_losses(model, 5):
        optimizer.step(loss_fn)
    assert trace(model) == before
    assert optimizer.steps == 5


# Scalers, accumulation.


def test_a_scaler_skips_the_whole_step() -> None:
    """Gradients are unscaled when the step begins; where they overflow, nothing is measured, and no step is counted."""
    model, calls = network(), list[int]()
    optimizer = DCAO(model.parameters(), 1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    for i, loss_fn in enumerate(batch_losses(model, 12)):
        optimizer.zero_grad()
        scaler.scale(loss_fn() * (math.inf if i in (0, 5) else 1)).backward()
        before: list[Any] = []
        if i in (0, 5):
            scaler.unscale_(optimizer)  # of the gradients, so that they are the same before and after
            before = state_of(model, optimizer)

        def counted(loss_fn: Callable[[], Tensor] = loss_fn, i: int = i) -> Tensor:
            calls.append(i)
            return loss_fn()

        scaler.step(optimizer, loss_fn=counted)
        if i in (0, 5):
            assert state_of(model, optimizer) == before
        scaler.update()
    assert optimizer.steps == len(optimizer.history) == 10
    assert not {0, 5} & set(calls)
    assert 1 in calls


@pytest.mark.parametrize("bound", ["sharpness", "direction"])
def test_accumulated_gradients_are_those_of_the_whole_batch(bound: Any) -> None:
    def run(parts: int) -> list[float]:
        model = network()
        optimizer = DCAO(model.parameters(), 5.0, bound=bound, cap_every=5)
        pairs = list(zip(x.chunk(parts), y.chunk(parts), strict=True))

        def loss_fn() -> Tensor:
            return torch.stack([F.mse_loss(model(a), b) for a, b in pairs]).mean()

        for _ in range(40):
            optimizer.zero_grad()
            for a, b in pairs:
                (F.mse_loss(model(a), b) / parts).backward()
            optimizer.step(loss_fn)
        assert not any(d.note for d in optimizer.history)
        return [d.used for d in optimizer.history] + [p.sum().item() for p in model.parameters()]

    assert run(4) == pytest.approx(run(1), rel=1e-9)


# Two processes.


WORLD: dict[str, Callable[..., Steered]] = {
    "edge, sharpness": lambda m, **o: DCAO(base=torch.optim.SGD(in_groups(m), lr=2.0, momentum=0.9), cap_every=3, **o),
    "edge, direction": lambda m, **o: DCAO(m.parameters(), 2.0, bound="direction", **o),
    "edge, by products": lambda m, **o: DCAO(base=torch.optim.AdamW(m.parameters(), lr=1.0), form="product", **o),
    "exponential": lambda m, **o: DCAO(m.parameters(), 2.0, policy="exponential", alpha=0.1, every=7, **o),
    "cdat": lambda m, **o: DCAO(base=thalweg.AdamW(m.parameters(), lr=1.0), policy="cdat", every=3, **o),
    "hidlr": lambda m, **o: HiDLR(m.parameters(), 0.1, groups=by_name(m), every=3, **o),
    "hidlr, full": lambda m, **o: HiDLR(m.parameters(), 0.1, groups=by_name(m), form="full", every=3, **o),
}


def by_name(model: nn.Module) -> dict[str, Any]:
    inner: Any = getattr(model, "module", model)
    return {name: m.parameters() for name, m in inner.named_children()}


def in_groups(model: nn.Module) -> list[dict[str, Any]]:
    """At a learning rate each, so that the curvature is weighed by them."""
    first, _, second = [list(params) for params in by_name(model).values()]
    return [{"params": first}, {"params": second, "lr": 0.5}]


def figures(model: nn.Module, optimizer: Steered) -> Tensor:
    weights = [whole(p).detach().flatten() for p in model.parameters()]
    measured = [(d.used, d.sharpness, d.residual) for d in optimizer.history]
    return torch.cat([*weights, torch.tensor(measured).nan_to_num(-1.0).flatten()])


def on_both(rank: int) -> list[Tensor]:
    """Each steering under DDP and under FSDP2, each process with its half of the batch; then what goes wrong."""
    from torch.distributed.fsdp import fully_shard

    half, found = slice(rank * 12, rank * 12 + 12), list[Tensor]()
    for name, make in WORLD.items():
        model: Any = DistributedDataParallel(network())
        optimizer = make(model)
        train(optimizer, [lambda model=model: F.mse_loss(model(x[half]), y[half])] * 12)
        assert not any(d.note for d in optimizer.history), name
        found.append(figures(model, optimizer))
        model = network()
        fully_shard(model[0])
        fully_shard(model)
        with pytest.raises(ValueError, match="pass model=, the module that fully_shard"):
            make(model)
        optimizer = make(model, model=model)
        train(optimizer, [lambda model=model: F.mse_loss(model(x[half]), y[half])] * 12)
        found.append(figures(model, optimizer))
    return [*found, *(not_finite_on_one(rank, make) for make in WORLD.values())]


def not_finite_on_one(rank: int, make: Callable[..., Steered]) -> Tensor:
    """The second process's loss is NaN while measured: both leave it at that, and go on together."""
    model = DistributedDataParallel(network())
    optimizer = make(model)
    half = slice(rank * 12, rank * 12 + 12)
    for i in range(6):
        optimizer.zero_grad()
        F.mse_loss(model(x[half]), y[half]).backward()
        bad = math.nan if rank and i < 2 else 1.0
        optimizer.step(lambda bad=bad: F.mse_loss(model(x[half]), y[half]) * bad)
    assert optimizer.history[0].note
    return figures(model, optimizer)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_processes_equal_one() -> None:
    first, second = in_two_processes(on_both)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    for i, (name, make) in enumerate(WORLD.items()):
        model = network()
        optimizer = make(model)
        train(optimizer, [lambda model=model: F.mse_loss(model(x), y)] * 12)
        for found in first[2 * i : 2 * i + 2]:
            torch.testing.assert_close(found, figures(model, optimizer), rtol=1e-9, atol=1e-9, msg=name)


def test_a_model_that_is_not_the_optimizers() -> None:
    model = network()
    with pytest.raises(ValueError, match=r"DCAO: model=Linear does not have parameter 2 of group 0 .*, shape \(3, 6\)"):
        DCAO(model.parameters(), 1.0, model=model[0])
    part = DCAO(model[0].parameters(), 1.0, model=model, cap_every=3)
    twin = network()
    alone = DCAO(twin[0].parameters(), 1.0, cap_every=3)
    train(part, batch_losses(model, 10))  # the rest of the model is not trained, and sums up its gradients
    train(alone, batch_losses(twin, 10))
    torch.testing.assert_close(list(model.parameters()), list(twin.parameters()))
    assert not any(d.note for d in part.history)


# Resumed runs.


RESUMED: dict[str, Callable[[Any], Steered]] = {
    "edge, sharpness": lambda p: DCAO(p, 3.0, weight_decay=0.01, cap_every=4),
    "edge, direction": lambda p: DCAO(p, 3.0, weight_decay=0.01, bound="direction"),
    "edge, AdamW": lambda p: DCAO(base=thalweg.AdamW(p, lr=1.0), form="product"),
    "exponential": lambda p: DCAO(p, 3.0, policy="exponential", alpha=0.3, normalized=True, every=5),
    "cdat": lambda p: DCAO(p, 3.0, policy="cdat", average=0.5, every=4),
    "hidlr": lambda p: HiDLR(p, 0.05, every=5),
    "hidlr, full": lambda p: HiDLR(p, 0.05, form="full", every=5),
}


@pytest.mark.filterwarnings("ignore:DCAO. measuring before step 0")
@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("at_a_probe", [True, False])
def test_resumes_bit_for_bit(name: str, at_a_probe: bool) -> None:
    def start() -> tuple[Any, ...]:
        model = network(nn.BatchNorm1d(6), nn.Dropout(0.2))
        ends, middle = [*model[0].parameters(), *model[-1].parameters()], list(model[2].parameters())
        optimizer = RESUMED[name]([{"params": ends}, {"params": middle, "lr": 0.02}])
        return (
            model,
            optimizer,
            lr_scheduler.OneCycleLR(optimizer, [0.1, 0.1] if "hidlr" in name else [3.0, 1.0], total_steps=40),
        )

    model, optimizer, schedule = start()
    losses = batch_losses(model, 40)
    torch.manual_seed(9)
    done = 0
    while done < 15 or (optimizer.next_probe == done) != at_a_probe:
        train(optimizer, [losses[done]], schedule.step)
        done += 1
    saved = io.BytesIO()
    torch.save([[o.state_dict() for o in (model, optimizer, schedule)], torch.get_rng_state()], saved)
    train(optimizer, losses[done:], schedule.step)
    ends = trace(model, optimizer, torch.get_rng_state())

    other, resumed, schedule = start()
    saved.seek(0)
    states, drawn = torch.load(saved, weights_only=True)
    for one, state in zip((other, resumed, schedule), states, strict=True):
        one.load_state_dict(state)
    torch.set_rng_state(drawn)
    assert resumed.next_probe == optimizer.history[done].step if at_a_probe else resumed.next_probe > done
    train(resumed, batch_losses(other, 40)[done:], schedule.step)
    assert trace(other, resumed, torch.get_rng_state()) == ends
    assert repr(list(resumed.history)) == repr(list(optimizer.history)[done:])


def test_the_history_is_bounded_and_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steered, "HISTORY", 7)
    model = network()
    optimizer = DCAO(model.parameters(), 0.1)
    train(optimizer, batch_losses(model, 20))
    assert [d.step for d in optimizer.history] == list(range(13, 20))
    size = len(tree_leaves(optimizer.state_dict()["control"]))
    train(optimizer, batch_losses(model, 20))
    assert len(tree_leaves(optimizer.state_dict()["control"])) == size


# What goes wrong.


POLICIES: dict[str, Callable[[Any], Steered]] = {
    "edge, sharpness": lambda p: DCAO(p, 0.5, cap_every=4),
    "edge, direction": lambda p: DCAO(p, 0.5, bound="direction"),
    "edge, AdamW": lambda p: DCAO(base=thalweg.AdamW(p, lr=0.1)),
    "exponential": lambda p: DCAO(p, 0.5, policy="exponential", every=5),
    "cdat": lambda p: DCAO(p, 0.5, policy="cdat"),
    "hidlr": lambda p: HiDLR(p, 0.5, every=5),
    "hidlr, products": lambda p: HiDLR(p, 0.5, form="products", every=5),
}


def before_a_probe(name: str) -> tuple[nn.Sequential, Steered, Callable[[], Tensor]]:
    """Some steps, and the gradients of one more, which measures."""
    model = network(nn.BatchNorm1d(6), nn.Dropout(0.2))
    optimizer = POLICIES[name](model.parameters())
    losses = batch_losses(model, 40)
    done = 0
    while done < 5 or optimizer.next_probe > done:
        train(optimizer, [losses[done]])
        done += 1
    optimizer.zero_grad()
    losses[done]().backward()
    return model, optimizer, losses[done]


class Broken(Exception):
    pass


def raising_after(calls: int, loss_fn: Callable[[], Tensor]) -> Callable[[], Tensor]:
    left = iter(range(calls))

    def broken() -> Tensor:
        loss = loss_fn()
        random.random()
        if next(left, None) is None:
            raise Broken("by itself")
        return loss

    return broken


def with_backward(loss_fn: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        value = loss_fn()
        value.backward()
        return value

    return loss


FAULTS: dict[str, tuple[Callable[[Callable[[], Tensor]], Any], type[Exception], str]] = {
    "no loss function": (lambda f: None, TypeError, r"measures curvature: call step\(loss_fn\).* was given NoneType"),
    "the loss itself": (
        lambda f: torch.ones(()),
        TypeError,
        r"measures curvature: call step\(loss_fn\).* was given Tensor",
    ),
    "it raises at once": (lambda f: raising_after(0, f), Broken, "by itself"),
    "it raises later": (lambda f: raising_after(1, f), Broken, "by itself"),
    "it calls backward": (with_backward, ValueError, "loss_fn wrote gradients"),
    "no scalar": (lambda f: lambda: f().expand(2), ValueError, r"returned shape \(2,\)"),
    "no tensor": (lambda f: lambda: f().item(), TypeError, "returned float"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", POLICIES)
def test_a_fault_leaves_training_as_it_was(name: str, fault: str) -> None:
    model, optimizer, loss_fn = before_a_probe(name)
    spoilt, error, message = FAULTS[fault]
    before = state_of(model, optimizer)
    with pytest.raises(error, match=message):
        optimizer.step(spoilt(loss_fn))
    assert state_of(model, optimizer) == before
    optimizer.step(loss_fn)
    twin, other, again = before_a_probe(name)
    other.step(again)
    assert state_of(model, optimizer) == state_of(twin, other)


@pytest.mark.parametrize("name", POLICIES)
def test_a_base_that_raises_leaves_the_policy_as_it_was(name: str) -> None:
    model, optimizer, loss_fn = before_a_probe(name)
    for group in optimizer.param_groups:
        group["nonfinite"] = "raise"
    weight: Any = model[0].weight
    gradient = weight.grad.clone()
    weight.grad[0, 0] = math.nan
    before = state_of(model, optimizer)
    with pytest.raises(FloatingPointError, match="is not"):
        optimizer.step(loss_fn)
    assert state_of(model, optimizer) == before
    weight.grad = gradient
    optimizer.step(loss_fn)
    twin, other, again = before_a_probe(name)
    other.step(again)
    assert trace(list(model.parameters())) == trace(list(twin.parameters()))
    assert repr(optimizer.history) == repr(other.history)


@pytest.mark.parametrize("name", POLICIES)
def test_a_loss_that_is_nan(name: str) -> None:
    """Its gradients are, too: no step is made, and the next batch goes on from there."""
    model, optimizer, loss_fn = before_a_probe(name)
    before = trace(optimizer.base, list(model.parameters()))
    optimizer.zero_grad()
    loss_fn().mul(math.nan).backward()
    with pytest.warns(UserWarning, match="the gradients are not finite, and no step is made"):
        optimizer.step(lambda: loss_fn() * math.nan)
    assert trace(optimizer.base, list(model.parameters())) == before
    assert (optimizer.history[-1].used, optimizer.history[-1].active) == (0.0, "gradients")
    optimizer.zero_grad()
    loss_fn().backward()
    optimizer.step(loss_fn)
    assert 0 < optimizer.history[-1].used < math.inf
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["edge, sharpness", "edge, direction", "edge, AdamW", "cdat"])
def test_a_loss_that_is_infinite_far_away(name: str) -> None:
    """−log(1 − w²) is, beyond a distance of one: a learning rate that reaches there is not used."""
    w = torch.tensor([0.5, 0.2, -0.6], requires_grad=True)

    def loss_fn() -> Tensor:
        return -(1 - w.square()).log().sum()

    optimizer: Any = POLICIES[name]([w])
    for group in optimizer.param_groups:
        group["lr"] = 1e3
    for _ in range(60):
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step(loss_fn)
        assert loss_fn().isfinite()
    assert loss_fn().item() < 0.1


@pytest.mark.filterwarnings("ignore:.*measuring before step")
@pytest.mark.parametrize("name", POLICIES)
def test_nan_always(name: str) -> None:
    model, optimizer, loss_fn = before_a_probe(name)
    steps = optimizer.steps
    weights = trace(list(model.parameters()))
    for _ in range(10):
        optimizer.zero_grad()
        (loss_fn() * math.nan).backward()
        optimizer.steps = max(optimizer.steps, optimizer.next_probe)  # other steps are the base's own affair
        optimizer.step(lambda: loss_fn() * math.nan)
    assert trace(list(model.parameters())) == weights
    assert optimizer.steps >= steps + 10


@pytest.mark.parametrize("name", POLICIES)
def test_some_groups_at_zero(name: str) -> None:
    model = network()
    optimizer: Any = POLICIES[name]([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.0}])
    before = trace(model[2])
    train(optimizer, batch_losses(model, 12))
    assert trace(model[2]) == before
    assert all(d.used > 0 and not d.note for d in optimizer.history)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    weights = trace(model)
    for _ in range(30):
        optimizer.step()
    assert trace(model) == weights
    assert {d.used for d in list(optimizer.history)[12:]} == {0.0}


@pytest.mark.parametrize("name", ["edge, sharpness", "edge, direction", "edge, AdamW", "cdat"])
def test_a_loss_concave_along_every_step(name: str) -> None:
    """Never above what is asked; no faster than the slew."""
    w = torch.full((3,), 0.1, requires_grad=True)
    optimizer: Any = POLICIES[name]([w])
    for _ in range(40):
        optimizer.zero_grad()
        (-w.square().sum()).backward()
        optimizer.step(lambda: -w.square().sum())
    used, slew = [d.used for d in optimizer.history], getattr(optimizer.settings, "slew", math.inf)
    assert all(0 < d.used <= d.asked for d in optimizer.history)
    assert all(b <= slew * a * (1 + 1e-12) for a, b in pairwise(used))


@pytest.mark.filterwarnings("ignore:DCAO. measuring")
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_loss_on_another_scale_than_its_gradients(scale: float) -> None:
    """As with a scaler's factor left in it: the bound along the step is a quotient, and does not see it."""

    def run(scale: float) -> DCAO:
        model = network()
        optimizer = DCAO(base=thalweg.AdamW(model.parameters(), lr=1.0))
        for loss_fn in batch_losses(model, 60):
            optimizer.zero_grad()
            loss_fn().backward()
            optimizer.step(lambda loss_fn=loss_fn: loss_fn() * scale)
        return optimizer

    other, own = run(scale), run(1.0)
    assert [d.used for d in other.history] == pytest.approx([d.used for d in own.history])


@pytest.mark.parametrize("puts_back", [True, False])
@pytest.mark.parametrize("policy", [Edge(bound="direction"), CDAT()], ids=repr)
def test_a_loss_in_another_mode_leaves_the_models(policy: Any, puts_back: bool) -> None:
    """Evaluated without dropout, the direction is about the gradient's own: nothing to warn of."""
    model = network(nn.Dropout(0.2), nn.BatchNorm1d(6).eval())
    optimizer = DCAO(model.parameters(), 0.5, policy=policy)

    def in_eval() -> Tensor:
        model.eval()
        loss = F.mse_loss(model(x), y)
        if puts_back:
            model.train()
            model[3].eval()
        return loss

    for _ in range(60):
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step(in_eval)
        assert [module.training for module in model] == [True, True, True, False, True]
        assert model.training
    assert not any(d.note for d in optimizer.history)


@pytest.mark.parametrize("form", ["values", "product"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_probe_knows_whether_the_loss_draws(rate: float, form: Any) -> None:
    model = network(nn.Dropout(rate))
    u = [torch.ones_like(p) for p in model.parameters()]
    probe = Probe(
        list(model.named_parameters()), [0] * 4, [1.0] * 4, lambda: F.mse_loss(model(x), y), lambda factors: u
    )
    probe.along(u, 0.1, form)
    assert probe.draws == (rate > 0)


def test_a_loss_that_differentiates_by_itself() -> None:
    """A penalty on the input's gradient, and on the parameters': nothing is evaluated without a graph."""
    model: Any = network()
    inputs = x.clone().requires_grad_()

    def loss_fn() -> Tensor:
        out = model(inputs)
        (slope,) = torch.autograd.grad(out.sum(), inputs, create_graph=True)
        (steep,) = torch.autograd.grad(out.square().mean(), model[2].weight, create_graph=True)
        return F.mse_loss(out, y) + 0.1 * slope.square().mean() + 0.1 * steep.square().mean()

    for name in "edge, sharpness", "edge, AdamW", "hidlr":
        start = loss_fn().item()
        train(POLICIES[name](model.parameters()), [loss_fn] * 15)
        assert loss_fn().item() < start


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    model = network()
    optimizer = HiDLR(model.parameters(), groups=by_name(model))
    train(optimizer, batch_losses(model, 12))
    other = HiDLR(thalweg.AdamW(model.parameters()), groups=by_name(model))
    train(other, batch_losses(model, 3))
    before = state_of(model, optimizer)
    with pytest.raises(ValueError, match="SGD: the state"):
        optimizer.load_state_dict(other.state_dict())
    assert state_of(model, optimizer) == before
    with pytest.raises(ValueError, match="no 'control'; to go on from a run of the base alone"):
        optimizer.load_state_dict(optimizer.base.state_dict())
    # As distributed checkpoints do it, which keep 'state' and 'param_groups' alone: the base's, and the rest beside it.
    states = optimizer.base.state_dict(), optimizer.state_dict()["control"]
    train(optimizer, batch_losses(model, 3))
    optimizer.load_state_dict(states[0] | {"control": states[1]})
    assert optimizer.steps == 12


@pytest.mark.parametrize("base", [torch.optim.LBFGS, thalweg.LBFGS, thalweg.NewtonCG])
def test_bases_that_evaluate_by_themselves(base: Any) -> None:
    with pytest.raises(TypeError, match=f"HiDLR: base={base.__name__} evaluates the loss itself"):
        HiDLR(base(network().parameters()))
