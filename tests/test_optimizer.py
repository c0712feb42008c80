"""The torch side: groups, closures, schedulers, gradients that come and go, errors, repr."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR, StepLR

import thalweg
from thalweg.conformance import SPECS
from thalweg.conformance.trial import STRATEGIES, error, parameters, run_together
from thalweg.core import strategy

RULES = [spec.name for spec in SPECS if not spec.kwargs]


def test_public_names() -> None:
    import thalweg as module

    assert sorted(module.__all__) == [
        "Adadelta",
        "Adagrad",
        "Adam",
        "AdamW",
        "AdamWScheduleFree",
        "CDAT",
        "CurvatureMonitor",
        "DCAO",
        "DOPE",
        "Edge",
        "ExMachina",
        "Exponential",
        "Finding",
        "HiDLR",
        "LBFGS",
        "MARS",
        "Mixed",
        "Muon",
        "NAdam",
        "NewtonCG",
        "Options",
        "PreflightWarning",
        "RMSprop",
        "Routes",
        "SAVEUS",
        "SGD",
        "SGDScheduleFree",
        "__version__",
        "convert",
        "create",
        "list_optimizers",
        "preflight",
        "route",
        "update_bn",
    ]
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize("run", STRATEGIES)
def test_follows_a_scheduler(run: str, tensor_lr: bool) -> None:
    def lr() -> float | Tensor:
        return torch.tensor(0.1) if tensor_lr else 0.1

    ours, theirs = parameters(), parameters()
    pair = [thalweg.AdamW(ours, lr=lr(), run=run), torch.optim.AdamW(theirs, lr=lr())]
    schedules = [OneCycleLR(o, 0.2, total_steps=20) for o in pair]
    for i in range(15):
        run_together(list(zip(pair, (ours, theirs), strict=True)), steps=1, seed=i)
        for schedule in schedules:
            schedule.step()
    assert error(ours, theirs) <= 1e-12


@pytest.mark.parametrize("run", STRATEGIES)
def test_parameters_without_a_gradient_keep_their_own_step_count(run: str) -> None:
    ours, theirs = parameters(), parameters()
    pair = [thalweg.NAdam(ours, run=run), torch.optim.NAdam(theirs)]
    for i in range(6):
        run_together(list(zip(pair, (ours, theirs), strict=True)), steps=0)
        generator = torch.Generator().manual_seed(i)
        for j, members in enumerate(zip(ours, theirs, strict=True)):
            g = torch.randn(members[0].shape, generator=generator)
            for p in members:
                p.grad = None if (i + j) % 3 == 0 else g.clone()
        for optimizer in pair:
            optimizer.step()
    assert error(ours, theirs) <= 1e-12
    steps = {float(pair[0].state[p]["step"]) for p in ours}
    assert steps == {float(pair[1].state[p]["step"]) for p in theirs} == {4.0}


@pytest.mark.parametrize("run", STRATEGIES)
def test_any_memory_layout(run: str) -> None:
    def layouts() -> list[Tensor]:
        torch.manual_seed(0)
        conv = torch.randn(6, 4, 3, 3).to(memory_format=torch.channels_last)
        transposed = torch.randn(150, 140).t()
        strided = torch.randn(20, 10)[::2, ::3]
        return [x.requires_grad_() for x in (conv, transposed, strided)]

    for options in ({}, {"normalize": 1.0, "cautious": True}):
        ours, theirs = layouts(), [x.detach().contiguous().requires_grad_() for x in layouts()]
        pair = [thalweg.AdamW(ours, run=run, **options), thalweg.AdamW(theirs, run="each", **options)]
        run_together(list(zip(pair, (ours, theirs), strict=True)), steps=3)
        assert error(ours, theirs) <= 1e-12


@pytest.mark.parametrize("run", STRATEGIES)
def test_sees_parameters_whose_memory_was_exchanged(run: str) -> None:
    ours, theirs = parameters(shapes=[(200, 100)]), parameters(shapes=[(200, 100)])
    pair = [thalweg.AdamW(ours, run=run), torch.optim.AdamW(theirs)]
    run_together(list(zip(pair, (ours, theirs), strict=True)), steps=2)
    for (p,) in (ours, theirs):
        p.data = p.data.clone() + 1
    run_together(list(zip(pair, (ours, theirs), strict=True)), steps=2)
    assert error(ours, theirs) <= 1e-12


def test_closure_is_evaluated_with_gradients_and_its_loss_returned() -> None:
    p = torch.ones(3).requires_grad_()
    optimizer = thalweg.SGD([p], lr=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        return loss.item()

    assert optimizer.step(closure) == 3.0
    assert torch.equal(p, torch.zeros(3))


def test_autograd_notices_that_the_step_changed_the_parameter() -> None:
    for run in STRATEGIES:
        p = torch.ones(20_000).requires_grad_()
        loss = (p * p * p).sum()
        optimizer = thalweg.AdamW([p], run=run)
        p.grad = torch.ones_like(p)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()  # pyright: ignore[reportUnknownMemberType]


def test_step_without_any_gradient_does_nothing() -> None:
    optimizer = thalweg.AdamW(parameters())
    optimizer.step()
    assert not optimizer.state_dict()["state"]


def test_auto_does_not_compile_small_models_and_says_so() -> None:
    params = parameters()
    optimizer = thalweg.AdamW(params)
    assert "decided at the first step" in repr(optimizer)
    run_together([(optimizer, params)], steps=1)
    assert 'run="foreach"' in repr(optimizer)
    assert "too small" in repr(optimizer)


def test_auto_compiles_large_models(monkeypatch: pytest.MonkeyPatch) -> None:
    assert strategy.choose("auto", "cpu", 1 << 23, "regular")[0] in ("compiled", "foreach")
    monkeypatch.setattr(strategy, "compiler_missing", lambda device: None)
    assert strategy.choose("auto", "cpu", 1 << 23, "regular")[0] == "compiled"


def test_auto_compiles_no_step_that_is_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "WORTH_COMPILING", 10)
    for kwargs, run in (({}, "foreach"), ({"momentum": 0.9}, "compiled"), ({"weight_decay": 0.1}, "compiled")):
        params = parameters(shapes=[(200, 100)])
        optimizer = thalweg.SGD(params, **kwargs)
        run_together([(optimizer, params)], steps=1)
        assert f'run="{run}"' in repr(optimizer)


def test_a_missing_compiler_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "compiler_missing", lambda device: "no C++ compiler was found")
    params, same = parameters(), parameters()
    optimizer = thalweg.AdamW(params, run="compiled")
    with pytest.warns(UserWarning, match=r"no C\+\+ compiler was found"):
        run_together([(optimizer, params)], steps=1)
    assert 'run="foreach"' in repr(optimizer)
    run_together([(thalweg.AdamW(same, run="foreach"), same)], steps=1)
    assert error(params, same) == 0
    assert strategy.choose("auto", "cpu", 1 << 23, "regular") == ("foreach", "no C++ compiler was found")


P = [torch.zeros(2, 2, requires_grad=True)]


@pytest.mark.parametrize(
    ("kwargs", "kind", "message"),
    [
        ({"lr": "0.1"}, TypeError, "lr='0.1' must be a number"),
        ({"lr": -1.0}, ValueError, "lr=-1.0 is out of range; allowed is 0 ≤ x"),
        ({"lr": float("nan")}, ValueError, "lr=nan is out of range"),
        ({"lr": float("inf")}, ValueError, "lr=inf is out of range"),
        ({"lr": True}, TypeError, "lr=True must be a number"),
        ({"lr": torch.ones(2)}, ValueError, r"lr has shape \(2,\); as a tensor it must be 0-D"),
        ({"lr": None}, TypeError, "lr=None must be a number"),
        ({"betas": (0.9, 1.0)}, ValueError, r"betas\[1\]=1.0 is out of range"),
        ({"betas": (0.9,)}, ValueError, r"betas=\(0.9,\) must be 2 numbers"),
        ({"betas": 0.9}, ValueError, "betas=0.9 must be 2 numbers"),
        ({"eps": -1e-8}, ValueError, "eps=-1e-08 is out of range"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay=-0.1 is out of range"),
        ({"amsgrad": 1}, ValueError, "amsgrad=1 is unknown; choose one of True, False"),
        ({"cautious": "yes"}, ValueError, "cautious='yes' is unknown"),
        ({"clip": -1.0}, ValueError, "clip=-1.0 is out of range"),
        ({"clip": "1"}, TypeError, "clip='1' must be a number"),
        ({"clip": ("size", 1.0)}, ValueError, "one of global_norm, norm, rms, value, adaptive"),
        ({"clip": ("norm",)}, ValueError, "must be a number or a pair"),
        ({"centralize": 1.5}, ValueError, "centralize=1.5 is out of range; allowed is 0 ≤ x ≤ 1"),
        ({"decay": "L2"}, ValueError, "decay='L2' is unknown; choose one of 'decoupled', 'l2', 'cautious'"),
        ({"decay": ["l2"]}, ValueError, "is unknown"),
        ({"nonfinite": None}, ValueError, "nonfinite=None is unknown"),
        ({"run": "fast"}, ValueError, "run='fast' is unknown"),
        ({"seed": 0.5}, TypeError, "seed=0.5 must be a whole number"),
        ({"cautios": True}, TypeError, "unknown argument 'cautios'; did you mean 'cautious'"),
        ({"fused": True}, TypeError, "chosen by run="),
    ],
)
def test_wrong_hyperparameters_are_named(kwargs: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        thalweg.AdamW(P, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"nesterov": True}, "needs momentum > 0"),
        ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening = 0"),
        ({"nesterov": "ahead", "momentum": 0.9}, "nesterov='ahead' is unknown"),
        ({"ema": True, "momentum": 0.9, "dampening": 0.1}, "dampening = 0"),
        ({"ema": True}, "needs momentum > 0"),
        ({"momentum": 1.0}, "momentum=1.0 is out of range"),
    ],
)
def test_sgd_refuses_forms_that_mean_nothing(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        thalweg.SGD(P, **kwargs)


def test_wrong_parameters() -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        thalweg.AdamW([])
    with pytest.raises(TypeError):
        thalweg.AdamW(P[0])
    with pytest.raises(TypeError):
        thalweg.AdamW(["weight"])  # type: ignore[list-item]
    for twice in ([P[0], P[0]], [("a", P[0]), ("b", P[0])]):
        with pytest.raises(ValueError, match="twice"):
            thalweg.AdamW(twice)
    with pytest.raises(TypeError, match="ordered"):
        thalweg.AdamW([{"params": set(P)}])
    with pytest.raises(ValueError, match="more than one parameter group"):
        thalweg.AdamW([{"params": P}, {"params": P}])


def test_a_refused_group_is_not_added() -> None:
    optimizer = thalweg.AdamW(P)
    new = torch.zeros(1, requires_grad=True)
    for entry in ({"lr": "x"}, {"weight_decy": 0.1}, {"betas": (0.9, 2.0)}):
        with pytest.raises((TypeError, ValueError)):
            optimizer.add_param_group({"params": [new], **entry})
        assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [new], "lr": 0.5, "name": "head"})
    assert optimizer.param_groups[1]["lr"] == 0.5


@pytest.mark.parametrize("run", STRATEGIES)
def test_sparse_and_complex_gradients_are_refused_before_anything_changes(run: str) -> None:
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    dense = torch.ones(3, requires_grad=True)
    dense.grad = torch.ones(3)
    embedding(torch.tensor([1, 2])).sum().backward()
    optimizer = thalweg.SGD([dense, embedding.weight], run=run)
    with pytest.raises(TypeError, match="sparse"):
        optimizer.step()
    assert torch.equal(dense, torch.ones(3))

    z = torch.ones(2, dtype=torch.complex128, requires_grad=True)
    z.grad = torch.ones_like(z)
    optimizer = thalweg.SGD([dense, z], run=run)
    with pytest.raises(TypeError, match="complex128"):
        optimizer.step()
    assert torch.equal(dense, torch.ones(3))
    assert not optimizer.state_dict()["state"]


def test_unknown_optimizer_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'adamw'"):
        thalweg.create("adamww", P)


def test_lbfgs_is_torchs() -> None:
    assert issubclass(thalweg.LBFGS, torch.optim.LBFGS)
    assert isinstance(thalweg.create("lbfgs", P, lr=0.5), thalweg.LBFGS)


def test_lr_schedule_of_groups() -> None:
    params = parameters(shapes=[(3,), (4,)])
    optimizer = thalweg.SGD([{"params": params[:1]}, {"params": params[1:], "lr": 1.0}], lr=0.1)
    schedule = StepLR(optimizer, 1, 0.5)
    run_together([(optimizer, params)], steps=1)
    schedule.step()
    assert [g["lr"] for g in optimizer.param_groups] == [0.05, 0.5]
