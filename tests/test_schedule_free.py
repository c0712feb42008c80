"""Averaging: schedule-free against the public reference, EMA against torch's, and the two sets of weights."""

from __future__ import annotations

import copy
import io
import itertools
from typing import Any

import pytest
import torch
from schedulefree import AdamWScheduleFreeReference, SGDScheduleFree
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import thalweg
from thalweg.conformance.sharded import in_two_processes
from thalweg.conformance.trial import STRATEGIES, error, give_gradients, parameters, run_together
from thalweg.core import sharding

GRID = list(itertools.product((0, 10), (0, 1, 2), (0, 2), (0, 0.1), ("rising", "falling", "constant")))
STEPS = 100
SHAPES: list[tuple[int, ...]] = [(), (7,), (4, 1), (8, 5), (2, 3, 3, 3), (0, 3), (300,)]  # the last is cut into pieces


def factor(schedule: str, step: int) -> float:
    return {"rising": (step + 1) / STEPS, "falling": 1 - step / STEPS, "constant": 1.0}[schedule]


def saved(optimizer: torch.optim.Optimizer) -> Any:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def follow_the_reference(
    run: str, warmup: int, r: int, power: int, decay: float, schedule: str, save_in: tuple[str, ...] = ()
) -> None:
    """Two groups of different lr; after each third of the steps the run is carried over to a new optimizer, in a mode."""
    ours, theirs = parameters(shapes=SHAPES), parameters(shapes=SHAPES)

    def grouped(params: list[Tensor]) -> list[dict[str, Any]]:
        return [{"params": params[:4], "lr": 0.01}, {"params": params[4:], "lr": 0.003}]

    own = dict(run=run, warmup_steps=warmup, r=float(r), weight_lr_power=float(power), weight_decay=decay)
    optimizer = thalweg.AdamWScheduleFree(grouped(ours), **own)
    reference = AdamWScheduleFreeReference(
        grouped(theirs), warmup_steps=warmup, r=r, weight_lr_power=power, weight_decay=decay
    )
    for group in reference.param_groups:
        group["train_mode"] = True
    modes = iter(save_in)
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        for o, lr in itertools.product((optimizer, reference), (0.01, 0.003)):
            o.param_groups[0 if lr == 0.01 else 1]["lr"] = lr * factor(schedule, step)
        give_gradients(list(zip(ours, theirs, strict=True)), generator)
        optimizer.step()
        reference.step()
        if step % 30 == 29 and (mode := next(modes, None)):
            if mode == "eval":
                optimizer.eval()
            again: list[Tensor] = [p.detach().clone().requires_grad_() for p in ours]
            other = thalweg.AdamWScheduleFree(grouped(again), **own)
            other.load_state_dict(saved(optimizer))
            optimizer, ours = other, again
            assert optimizer.param_groups[0]["train_mode"] == (mode == "train")
            optimizer.train()

    def column(name: str) -> list[Tensor]:
        return [reference.state[p][name] for p in theirs if p.numel()]

    def own_column(name: str) -> list[Tensor]:
        return [optimizer.state[p][name] for p in ours if p.numel()]

    full = [p for p in ours if p.numel()]
    assert error(full, column("y")) <= 1e-12
    assert error(own_column("z"), column("z")) <= 1e-12
    assert error(own_column("exp_avg_sq"), column("exp_avg_sq")) <= 1e-12
    kept = [p.detach().clone() for p in ours]
    with optimizer.evaluation():
        assert error(full, column("x")) <= 1e-12
    assert all(torch.equal(p, k) for p, k in zip(ours, kept, strict=True))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("warmup", "r", "power", "decay", "schedule"), GRID)
def test_adamw_equals_the_public_reference(warmup: int, r: int, power: int, decay: float, schedule: str) -> None:
    follow_the_reference("foreach", warmup, r, power, decay, schedule)


@pytest.mark.parametrize("run", STRATEGIES)
@pytest.mark.parametrize("modes", [("train",) * 3, ("eval",) * 3, ("eval", "train", "eval")], ids="-".join)
def test_and_goes_on_from_saves_in_either_mode(run: str, modes: tuple[str, ...]) -> None:
    follow_the_reference(run, 10, 1, 2, 0.1, "falling", modes)


@pytest.mark.parametrize("run", ["each", "foreach"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_equals_the_public_code(run: str, decay: float) -> None:
    shapes: list[tuple[int, ...]] = [(), (7,), (8, 5)]
    ours, theirs = parameters(shapes=shapes), parameters(shapes=shapes)
    optimizer = thalweg.SGDScheduleFree(ours, lr=0.5, warmup_steps=5, weight_decay=decay, run=run)
    reference = SGDScheduleFree(theirs, lr=0.5, warmup_steps=5, weight_decay=decay)
    reference.train()
    run_together([(optimizer, ours), (reference, theirs)], steps=50)
    assert error(ours, theirs) <= 1e-12
    reference.eval()
    optimizer.eval()
    assert error(ours, theirs) <= 1e-12


@pytest.mark.parametrize("name", ["dope", "muon", "saveus", "rmsprop", "nadam"])
@pytest.mark.parametrize("run", ["each", "foreach"])
def test_any_rule_takes_the_average(name: str, run: str) -> None:
    """y and x by the three printed equations around a second, plain optimizer that says what the update is."""
    shapes = [(6, 5), (3, 4)]
    ours, probe = parameters(shapes=shapes), parameters(shapes=shapes)
    optimizer = thalweg.create(name, ours, lr=0.01, average=("schedule_free", 0.8), run=run)
    plain = thalweg.create(name, probe, lr=0.01)
    x, z = [p.detach().clone() for p in ours], [p.detach().clone() for p in ours]
    generator = torch.Generator().manual_seed(1)
    for t in range(1, 20):
        give_gradients(list(zip(ours, probe, strict=True)), generator)
        before = [p.detach().clone() for p in probe]
        optimizer.step()
        plain.step()
        for i, (p, b) in enumerate(zip(probe, before, strict=True)):
            z[i] = z[i] - (b - p.detach())
            x[i] = (1 - 1 / t) * x[i] + z[i] / t
            with torch.no_grad():
                p.copy_(0.8 * x[i] + 0.2 * z[i])
    assert error(ours, probe) <= 1e-12
    with optimizer.evaluation():  # type: ignore[attr-defined]
        assert error(ours, x) <= 1e-12


@pytest.mark.parametrize("run", STRATEGIES)
def test_ema_equals_torchs_averaged_model(run: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 3).double()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    optimizer = thalweg.AdamW(model.parameters(), lr=0.1, average=("ema", 0.9), run=run)
    for _ in range(20):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
        averaged.update_parameters(model)
    trained = copy.deepcopy(model.state_dict())
    with optimizer.evaluation():
        assert error(list(model.parameters()), list(averaged.module.parameters())) <= 1e-12
        assert error(list(model.parameters()), list(trained.values())) > 1e-3
    assert all(torch.equal(p, trained[n]) for n, p in model.named_parameters())


def test_an_average_asked_for_in_the_middle_of_a_run() -> None:
    params = parameters(shapes=[(3, 4)])
    optimizer = thalweg.AdamW(params, lr=0.1)
    run_together([(optimizer, params)], steps=2)
    optimizer.param_groups[0]["average"] = "ema"
    kept = params[0].detach().clone()
    with optimizer.evaluation():  # of nothing yet
        assert torch.equal(params[0], kept)
    run_together([(optimizer, params)], steps=2)
    kept = params[0].detach().clone()
    with optimizer.evaluation():
        assert not torch.equal(params[0], kept)
    assert torch.equal(params[0], kept)


def test_state_takes_eight_bytes_a_parameter() -> None:
    params = parameters(torch.float32, shapes=[(30, 20), (50,)])
    optimizer = thalweg.AdamWScheduleFree(params)
    run_together([(optimizer, params)], steps=2)
    for p in params:
        assert sum(s.nbytes for s in optimizer.state[p].values() if s.ndim) == 8 * p.numel()


def test_half_precision_weights_come_back_to_the_bit() -> None:
    params = parameters(torch.bfloat16)
    optimizer = thalweg.AdamWScheduleFree(params, lr=0.01)
    run_together([(optimizer, params)], steps=5)
    kept = [p.detach().clone() for p in params]
    optimizer.eval()
    assert any(not torch.equal(p, k) for p, k in zip(params, kept, strict=True))
    optimizer.eval()  # again: nothing
    optimizer.train()
    assert all(torch.equal(p, k) for p, k in zip(params, kept, strict=True))


def test_a_step_in_evaluation_mode_is_refused_and_changes_nothing() -> None:
    params = parameters(shapes=[(3, 4)])
    optimizer = thalweg.AdamWScheduleFree(params)
    run_together([(optimizer, params)], steps=2)
    optimizer.eval()
    before = saved(optimizer)
    with pytest.raises(RuntimeError, match=r"evaluation mode.*optimizer.train\(\)"):
        optimizer.step()
    assert str(saved(optimizer)) == str(before)
    optimizer.train()
    optimizer.step()


def test_modes_of_an_optimizer_without_an_average_do_nothing() -> None:
    params = parameters(shapes=[(3, 4)])
    optimizer = thalweg.AdamW(params)
    run_together([(optimizer, params)], steps=1)
    kept = params[0].detach().clone()
    optimizer.eval()
    assert torch.equal(params[0], kept)
    run_together([(optimizer, params)], steps=1)


def trained_in(mode: str) -> tuple[nn.Linear, dict[str, Any], Any]:
    """A model, its weights and the optimizer's state dict, both as they are in a mode."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    optimizer = thalweg.AdamWScheduleFree(model.named_parameters(), lr=0.1)
    for _ in range(5):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
    if mode == "eval":
        optimizer.eval()
    return model, copy.deepcopy(model.state_dict()), saved(optimizer)


@pytest.mark.parametrize("weights_first", [True, False])
@pytest.mark.parametrize(("weights", "state"), [("train", "eval"), ("eval", "train")])
def test_weights_and_state_of_different_modes_are_refused(weights: str, state: str, weights_first: bool) -> None:
    _, parameters_saved, _ = trained_in(weights)
    _, _, state_saved = trained_in(state)
    model = nn.Linear(4, 3)
    optimizer = thalweg.AdamWScheduleFree(model.named_parameters(), lr=0.1)
    message = "(training|evaluation) mode, and its parameters hold the weights of (training|evaluation) mode"
    if weights_first:
        model.load_state_dict(parameters_saved)
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state_saved)
        assert not optimizer.state
        return
    optimizer.load_state_dict(state_saved)
    model.load_state_dict(parameters_saved)
    for use in (optimizer.step, optimizer.train, optimizer.eval):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        with pytest.raises(ValueError, match=message):
            use()
        assert all(torch.equal(p, parameters_saved[n]) for n, p in model.named_parameters())


@pytest.mark.parametrize("weights_first", [True, False])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_weights_and_state_of_one_mode_go_together_in_either_order(mode: str, weights_first: bool) -> None:
    original, parameters_saved, state_saved = trained_in(mode)
    model = nn.Linear(4, 3)
    optimizer = thalweg.AdamWScheduleFree(model.named_parameters(), lr=0.1)
    loads = [lambda: model.load_state_dict(parameters_saved), lambda: optimizer.load_state_dict(state_saved)]
    for load in loads if weights_first else loads[::-1]:
        load()
    optimizer.eval()
    assert error(list(model.parameters()), list(original.parameters())) >= 0
    optimizer.train()
    _, expected, _ = trained_in("train")
    assert all(torch.equal(p, expected[n]) for n, p in model.named_parameters())


def test_other_weights_than_the_states_own_are_reported() -> None:
    _, _, state_saved = trained_in("train")
    model = nn.Linear(4, 3)
    optimizer = thalweg.AdamWScheduleFree(model.named_parameters(), lr=0.1)
    optimizer.load_state_dict(state_saved)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    with pytest.warns(UserWarning, match="not those its state was saved with"):
        optimizer.step()
    optimizer.step()  # once is enough


@pytest.mark.parametrize(
    ("cls", "kwargs", "message"),
    [
        (thalweg.AdamW, {"average": "sma"}, "average='sma'"),
        (thalweg.AdamW, {"average": ("ema", 1.0)}, "average='ema': β=1.0"),
        (thalweg.AdamW, {"average": ("schedule_free", 0.0)}, "average='schedule_free': β=0.0"),
        (thalweg.AdamW, {"warmup_steps": 5}, "warmup_steps=5 is for average='schedule_free'"),
        (thalweg.AdamWScheduleFree, {"warmup_steps": 2.5}, "warmup_steps=2.5 must be a whole number"),
        (thalweg.AdamWScheduleFree, {"betas": (0.0, 0.9)}, "average='schedule_free': β=0.0"),
        (thalweg.SGDScheduleFree, {"momentum": 0.0}, "momentum=0"),
    ],
)
def test_wrong_arguments_are_named(cls: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        cls(parameters(shapes=[(2, 2)]), **kwargs)
    assert message in str(raised.value)


def sharded_modes(rank: int) -> list[Tensor]:
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 1)).double()
    fully_shard(model)
    optimizer = thalweg.AdamWScheduleFree(model.named_parameters(), lr=0.1, warmup_steps=3)
    for i in range(6):
        torch.manual_seed(i)
        optimizer.zero_grad()
        model(torch.randn(4, 7, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)  # found to belong to the weights, by checksums over both processes
    optimizer.eval()
    with pytest.raises(ValueError, match="weights of evaluation mode"):
        optimizer.load_state_dict(state)
    x = [sharding.whole(p).detach().clone() for p in model.parameters()]
    optimizer.train()
    return [*x, *(sharding.whole(p).detach() for p in model.parameters())]


def test_two_processes_average_as_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 1)).double()
    optimizer = thalweg.AdamWScheduleFree(model.named_parameters(), lr=0.1, warmup_steps=3)
    for i in range(6):
        torch.manual_seed(i)
        optimizer.zero_grad()
        model(torch.randn(4, 7, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    with optimizer.evaluation():
        x = [p.detach().clone() for p in model.parameters()]
    expected = [*x, *(p.detach() for p in model.parameters())]
    for result in in_two_processes(sharded_modes):
        assert error(result, expected) <= 1e-12


def test_batchnorm_statistics_are_those_of_the_average() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    batches = [torch.randn(8, 3) for _ in range(6)]
    optimizer = thalweg.AdamWScheduleFree(model.parameters(), lr=0.1)
    for batch in batches:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    kept = [p.detach().clone() for p in model.parameters()]
    thalweg.update_bn(batches, model, optimizer)
    assert all(torch.equal(p, k) for p, k in zip(model.parameters(), kept, strict=True))
    with optimizer.evaluation(), torch.no_grad():
        hidden = [model[0](batch) for batch in batches]
    mean = torch.stack([h.mean(0) for h in hidden]).mean(0)
    var = torch.stack([h.var(0) for h in hidden]).mean(0)
    assert torch.allclose(model[1].running_mean, mean, atol=1e-6)
    assert torch.allclose(model[1].running_var, var, atol=1e-6)
