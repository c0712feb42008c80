"""Runs that another library began and ours continues from its state dict; and what is refused."""

from __future__ import annotations

import copy
import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytorch_optimizer
import schedulefree
import torch
from pytorch_optimizer.optimizer.muon import base as peer_muon
from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5
from schedulefree.sgd_schedulefree_reference import SGDScheduleFreeReference
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.optim import _muon as torch_muon

import thalweg
from thalweg.conformance.trial import error, give_gradients, parameters
from thalweg.convert import convert

SHAPES: list[tuple[int, ...]] = [(), (7,), (8, 5), (2, 3, 3, 3), (12,), (4, 9)]
MATRICES: list[tuple[int, ...]] = [(8, 5), (5, 8), (6, 6)]
EXACT = 1e-12
Maker = Callable[[Any], Any]


def through_a_file(saved: Any) -> Any:
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def step(runs: Sequence[tuple[Any, Sequence[Tensor]]], steps: int, seed: int) -> None:
    """Steps from the same gradients, under a falling learning rate."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        give_gradients(list(zip(*(params for _, params in runs), strict=True)), generator)
        for optimizer, _ in runs:
            optimizer.step()
            for group in optimizer.param_groups:
                group["lr"] *= 0.97


def grouped(params: Sequence[Any]) -> list[dict[str, Any]]:
    """Two groups that differ in lr."""
    return [{"params": params[:3]}, {"params": params[3:], "lr": 0.003}]


def continued(
    theirs: Maker,
    ours: Maker,
    source: str,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    dtype: torch.dtype = torch.float64,
    before: int = 5,
    **told: Any,
) -> float:
    """How far the run that goes on here is from the one that goes on there, after as many steps again and more."""
    there, here = parameters(dtype, shapes), parameters(dtype, shapes)
    reference, optimizer = theirs(there), ours(here)
    step([(reference, there)], before, seed=1)
    with torch.no_grad():
        for p, q in zip(here, there, strict=True):
            p.copy_(q)
    saved = through_a_file(reference.state_dict())
    kept = copy.deepcopy(saved)
    optimizer.load_state_dict(through_a_file(convert(saved, source, **told)))
    assert repr(saved) == repr(kept)  # the argument is as it was
    step([(optimizer, here), (reference, there)], 8, seed=2)
    return error(here, there)


def refused(kind: type[Exception], message: str, saved: Any, source: str, **told: Any) -> None:
    with pytest.raises(kind, match=message):
        convert(saved, source, **told)


def saved_by(optimizer: Maker, shapes: Sequence[tuple[int, ...]] = SHAPES, steps: int = 2) -> Any:
    params = parameters(shapes=shapes)
    made = optimizer(params)
    step([(made, params)], steps, seed=1)
    return made.state_dict()


# schedulefree

FREE = {"warmup_steps": 7, "weight_decay": 0.1}  # the change of hands is within the warm-up
FREE_ADAM = FREE | {"betas": (0.8, 0.95), "eps": 1e-6}


def training(optimizer: Any) -> Any:
    for group in optimizer.param_groups:  # the reference class says what it does on standard output
        group["train_mode"] = True
    return optimizer


@pytest.mark.parametrize("before", [1, 5, 12])
@pytest.mark.parametrize("more", [{}, {"r": 2.0, "weight_lr_power": 0.0}, {"foreach": False}])
@pytest.mark.parametrize("theirs", [schedulefree.AdamWScheduleFree, schedulefree.AdamWScheduleFreeReference])
def test_schedule_free_adamw(theirs: Any, more: dict[str, Any], before: int) -> None:
    make = lambda ps: training(theirs(grouped(ps), lr=0.01, **FREE_ADAM, **more))  # noqa: E731
    ours = lambda ps: thalweg.AdamWScheduleFree(grouped(ps))  # noqa: E731
    assert continued(make, ours, "schedulefree", before=before) <= EXACT


@pytest.mark.parametrize("theirs", [schedulefree.SGDScheduleFree, SGDScheduleFreeReference])
def test_schedule_free_sgd(theirs: Any) -> None:
    make = lambda ps: training(theirs(grouped(ps), lr=0.5, momentum=0.7, **FREE))  # noqa: E731
    assert continued(make, lambda ps: thalweg.SGDScheduleFree(grouped(ps)), "schedulefree") <= EXACT


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize(
    ("theirs", "ours", "kwargs"),
    [
        (schedulefree.AdamWScheduleFree, thalweg.AdamWScheduleFree, FREE_ADAM),
        (schedulefree.SGDScheduleFree, thalweg.SGDScheduleFree, FREE),
        (schedulefree.AdamWScheduleFreeReference, thalweg.AdamWScheduleFree, FREE_ADAM),
    ],
)
def test_schedule_free_saved_in_evaluation_mode(theirs: Any, ours: Any, kwargs: dict[str, Any], names: bool) -> None:
    torch.manual_seed(0)
    there = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    here = copy.deepcopy(there)
    reference = training(theirs(there.named_parameters() if names else there.parameters(), lr=0.1, **kwargs))
    step([(reference, list(there.parameters()))], 5, seed=1)
    is_reference = theirs is schedulefree.AdamWScheduleFreeReference
    reference.eval()
    saved, weights = through_a_file([reference.state_dict(), there.state_dict()])
    reference.train()
    here.load_state_dict(weights)
    optimizer = ours(here.named_parameters() if names else here.parameters())
    if not is_reference:  # which keeps y itself
        refused(
            ValueError, r"evaluation mode.*optimizer.train\(\) before saving, or give weights=", saved, "schedulefree"
        )
    given = weights if names else list(weights.values())
    optimizer.load_state_dict(convert(saved, "schedulefree", weights=given))
    x = [p.detach().clone() for p in here.parameters()]
    optimizer.train()
    assert error(list(here.parameters()), list(there.parameters())) <= EXACT
    optimizer.eval()
    assert error(list(here.parameters()), x) <= EXACT
    optimizer.train()
    step([(optimizer, list(here.parameters())), (reference, list(there.parameters()))], 8, seed=2)
    assert error(list(here.parameters()), list(there.parameters())) <= EXACT
    reference.eval()
    optimizer.eval()
    assert error(list(here.parameters()), list(there.parameters())) <= EXACT


def test_names_find_their_parameters_in_another_order() -> None:
    torch.manual_seed(0)
    there = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    here = copy.deepcopy(there)
    reference = training(schedulefree.AdamWScheduleFree(there.named_parameters(), lr=0.1))
    step([(reference, list(there.parameters()))], 5, seed=1)
    here.load_state_dict(there.state_dict())
    optimizer = thalweg.AdamWScheduleFree(reversed(list(here.named_parameters())))
    optimizer.load_state_dict(convert(reference.state_dict(), "schedulefree"))
    step([(optimizer, list(here.parameters())), (reference, list(there.parameters()))], 8, seed=2)
    assert error(list(here.parameters()), list(there.parameters())) <= EXACT


def test_schedule_free_before_the_first_step() -> None:
    saved = schedulefree.AdamWScheduleFree(parameters(shapes=SHAPES), lr=0.1).state_dict()
    optimizer = thalweg.AdamWScheduleFree(parameters(shapes=SHAPES))
    optimizer.load_state_dict(convert(saved, "schedulefree"))
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_schedule_free_refusals() -> None:
    free = saved_by(lambda ps: training(schedulefree.AdamWScheduleFree(ps)))
    radam = saved_by(lambda ps: training(schedulefree.RAdamScheduleFree(ps)))
    refused(ValueError, "RAdamScheduleFree", radam, "schedulefree")
    refused(ValueError, "expected is AdamWScheduleFree, which has 'lr'", saved_by(torch.optim.AdamW), "schedulefree")
    closure = schedulefree.AdamWScheduleFreeClosure(parameters(shapes=SHAPES)).state_dict()
    refused(ValueError, "expected is AdamWScheduleFree", closure, "schedulefree")
    decay_at_z = saved_by(lambda ps: training(schedulefree.AdamWScheduleFreeReference(ps, decay_at_z=True)))
    refused(ValueError, "decay_at_z=True has no counterpart here; covered is False", decay_at_z, "schedulefree")
    free["param_groups"][0]["train_mode"] = False
    refused(ValueError, "weights has 2 tensors; .* 6 parameters", free, "schedulefree", weights=[torch.ones(1)] * 2)
    refused(ValueError, r"have shape \(1,\); its z has \(\)", free, "schedulefree", weights=[torch.ones(1)] * 6)
    refused(ValueError, "names no parameters", free, "schedulefree", weights={})
    del free["param_groups"][0]["lr_max"]
    refused(ValueError, "lacks 'lr_max'", free, "schedulefree")


# torch

number = functools.partial(torch.tensor, dtype=torch.float64)


@pytest.mark.parametrize(
    ("theirs", "ours", "kwargs"),
    [
        ("SGD", "sgd", {"momentum": 0.9, "dampening": 0.3}),
        ("SGD", "sgd", {}),
        ("Adagrad", "adagrad", {"lr_decay": 0.1}),
        ("Adadelta", "adadelta", {}),
        ("RMSprop", "rmsprop", {"centered": True, "momentum": 0.9}),
        ("Adam", "adam", {"amsgrad": True, "weight_decay": 0.1}),
        ("Adam", "adamw", {"weight_decay": 0.1}),
        ("Adam", "adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
        ("AdamW", "adam", {}),
        ("AdamW", "adamw", {"fused": True}),
        ("AdamW", "adamw", {"lr": number(0.01), "betas": (number(0.8), number(0.9))}),
        ("NAdam", "nadam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ],
)
def test_torch(theirs: str, ours: str, kwargs: dict[str, Any]) -> None:
    make = lambda ps: getattr(torch.optim, theirs)(grouped(ps), **({"lr": 0.01} | kwargs))  # noqa: E731
    assert continued(make, lambda ps: thalweg.create(ours, grouped(ps)), "torch") <= EXACT


def test_torch_hyperparameters_and_counts_of_one_element() -> None:
    """torch takes them in any shape, and its older versions counted in plain numbers."""
    make = lambda ps: torch.optim.AdamW(ps, lr=torch.tensor([0.01]), weight_decay=0.0)  # noqa: E731
    saved = saved_by(make)
    for i, state in saved["state"].items():
        state["step"] = 2 if i % 2 else state["step"].reshape(1)
    optimizer = thalweg.AdamW(parameters(shapes=SHAPES))
    with pytest.raises(ValueError, match=r"lr has shape \(1,\)"):
        optimizer.load_state_dict(saved)
    optimizer.load_state_dict(convert(saved, "torch"))
    assert optimizer.param_groups[0]["lr"].shape == ()
    assert {s["step"].item() for s in optimizer.state.values()} == {2.0}


def test_torch_by_the_models_names() -> None:
    """As torch.distributed.checkpoint writes state dicts."""
    torch.manual_seed(0)
    there = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    here = copy.deepcopy(there)
    reference = torch.optim.NAdam(there.parameters(), lr=0.01)
    step([(reference, list(there.parameters()))], 5, seed=1)
    here.load_state_dict(there.state_dict())
    optimizer = thalweg.NAdam(here.parameters())
    optimizer.load_state_dict(convert(get_optimizer_state_dict(there, reference), "torch"))
    step([(optimizer, list(here.parameters())), (reference, list(there.parameters()))], 8, seed=2)
    assert error(list(here.parameters()), list(there.parameters())) <= EXACT


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (
            torch.optim.RAdam,
            "is of Adamax, RAdam or SparseAdam; covered are NAdam, Adam and AdamW, SGD, RMSprop, .* of torch.optim",
        ),
        (torch.optim.ASGD, "is of ASGD"),
        (torch.optim.Rprop, "is of Rprop"),
        (torch.optim.Adafactor, "is of Adafactor"),
        (torch.optim.Muon, "is of Muon; take source='torch_muon'"),
        (pytorch_optimizer.SGDW, "is of pytorch_optimizer"),
        (lambda ps: training(schedulefree.AdamWScheduleFree(ps)), "is of schedulefree"),
    ],
)
def test_torch_refusals(theirs: Any, message: str) -> None:
    refused(ValueError, message, saved_by(theirs, MATRICES), "torch")


# Muon

POLYNOMIAL = (3.4445, -4.7750, 2.0315)


def orthogonal(x: Tensor, coefficients: Any = POLYNOMIAL, steps: int = 5, eps: float = 1e-7) -> Tensor:
    """The public iteration in the dtype of ``x``, so that only the conversion is tested."""
    a, b, c = coefficients
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Steps(torch.optim.Optimizer):
    """The loop of the stand-ins below."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                self.one(p, p.grad.clone(), self.state[p], group)

    def one(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError


class Keller(Steps):
    """What github.com/KellerJordan/Muon does and keeps: M an average, or the sum in older versions; Adam beside it."""

    summed = False

    def __init__(self, params: Any) -> None:
        given = list(params)
        alone = not isinstance(given[0], dict)
        super().__init__(given, {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9} if alone else {})

    def one(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        shrink = 1 - group["lr"] * group["weight_decay"]
        if group.get("use_muon", True):
            mu = group["momentum"]
            m = state.setdefault("momentum_buffer", torch.zeros_like(p))
            w = 1 if self.summed else 1 - mu
            m.mul_(mu).add_(w * g)
            u = orthogonal((w * g + mu * m).flatten(1) if p.ndim == 4 else w * g + mu * m)
            scale = max(1, p.shape[-2] / p.shape[-1]) ** 0.5
            p.mul_(shrink).sub_(group["lr"] * scale * u.reshape(p.shape))
            return
        (b1, b2), t = group["betas"], state.get("step", 0) + 1
        m, v = (state.setdefault(name, torch.zeros_like(p)) for name in ("exp_avg", "exp_avg_sq"))
        state["step"] = t
        m.lerp_(g, 1 - b1)
        v.lerp_(g * g, 1 - b2)
        p.mul_(shrink).sub_(group["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + group["eps"]))


class SummedKeller(Keller):
    summed = True


class OneGroup(Steps):
    """Moonlight's Muon and the class of 2024 it was made from: one group, ``use_muon`` in the state, M a sum."""

    def __init__(self, params: Sequence[Tensor], eps: float = 0.0, **own: Any) -> None:
        base = dict(momentum=0.9, nesterov=True, ns_steps=5, adamw_betas=(0.8, 0.95), adamw_eps=eps)
        super().__init__(params, {"lr": 1e-2} | base | own)
        for p in params:
            self.state[p]["use_muon"] = p.ndim == 2

    def one(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        moonlight = "wd" in group
        lr, decay = group["lr"], group.get("wd", 0.0)
        if state["use_muon"]:
            m = state.setdefault("momentum_buffer", torch.zeros_like(g))
            m.mul_(group["momentum"]).add_(g)
            u = orthogonal(g + group["momentum"] * m if group["nesterov"] else m, steps=group["ns_steps"])
            scale = 0.2 * math.sqrt(max(p.shape)) if moonlight else max(1, p.shape[0] / p.shape[1]) ** 0.5
            p.mul_(1 - lr * decay).sub_(lr * scale * u)
            return
        lr, decay = lr * group.get("adamw_lr_ratio", 1.0), group.get("wd", group.get("adamw_wd"))
        (b1, b2), t = group["adamw_betas"], state.get("step", 0) + 1
        m, v = (state.setdefault(name, torch.zeros_like(g)) for name in ("moment1", "moment2"))
        state["step"] = t
        m.lerp_(g, 1 - b1)
        v.lerp_(g * g, 1 - b2)
        u = m / (group["adamw_eps"] + v.sqrt())
        p.mul_(1 - lr * decay).sub_(lr * (1 - b2**t) ** 0.5 / (1 - b1**t) * u)


def mixed(params: Sequence[Tensor]) -> thalweg.Mixed:
    """Matrices, then the rest, each in their order."""
    matrices, rest = ([p for p in params if (p.ndim == 2) is flag] for flag in (True, False))
    return thalweg.Mixed([{"params": matrices, "optimizer": "muon"}, {"params": rest, "optimizer": "adamw"}])


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("ema", [None, True, False])
def test_keller_muon(ema: bool | None, summed: bool) -> None:
    shapes = [*MATRICES, (2, 3, 3, 3)]
    theirs = SummedKeller if summed else Keller
    assert continued(theirs, thalweg.Muon, "keller_muon", shapes, ema=ema, summed=summed) <= EXACT


def test_keller_muon_reads_three_dimensions_as_a_stack() -> None:
    shapes = [(3, 8, 5), (2, 5, 8)]
    stacked = functools.partial(thalweg.Muon, stacked=True)
    assert continued(Keller, stacked, "keller_muon", shapes) <= EXACT
    refused(ValueError, "parameters 1 have three dimensions", saved_by(Keller, [(8, 5), (3, 8, 5)]), "keller_muon")


def test_keller_muon_scales_some_kernels_otherwise() -> None:
    saved = saved_by(Keller, [(16, 1, 3, 3)])
    with pytest.warns(UserWarning, match=r"parameter 0 of shape \(16, 1, 3, 3\).* by 1; .* scaled by 1.33"):
        convert(saved, "keller_muon")


def test_keller_muon_with_auxiliary_adam() -> None:
    def groups(params: Sequence[Tensor]) -> list[dict[str, Any]]:
        adam = dict(use_muon=False, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.05)
        matrices, vectors, scalars = ([p for p in params if p.ndim == n] for n in (2, 1, 0))
        muon = dict(params=matrices, lr=0.02, momentum=0.9, weight_decay=0.1, use_muon=True)
        return [dict(params=vectors, lr=0.01, **adam), muon, dict(params=scalars, lr=0.1, **adam)]

    def ours(params: Sequence[Tensor]) -> thalweg.Mixed:
        rules = ("adamw", "muon", "adamw")
        pairs = zip(groups(params), rules, strict=True)
        return thalweg.Mixed([{"params": group["params"], "optimizer": rule} for group, rule in pairs])

    shapes: list[tuple[int, ...]] = [*MATRICES, (), (7,)]
    assert continued(lambda ps: Keller(groups(ps)), ours, "keller_muon", shapes) <= EXACT


@pytest.mark.parametrize("own", [{"wd": 0.1}, {"adamw_lr_ratio": 0.3, "adamw_wd": 0.05}], ids=["moonlight", "2024"])
@pytest.mark.parametrize("ema", [None, True])
@pytest.mark.parametrize("nesterov", [True, False])
def test_both_rules_in_one_group(nesterov: bool, ema: bool | None, own: dict[str, Any]) -> None:
    source = "moonlight" if "wd" in own else "keller_muon"
    shapes: list[tuple[int, ...]] = [(8, 5), (7,), (5, 8), ()]
    theirs = functools.partial(OneGroup, nesterov=nesterov, **own)
    assert continued(theirs, mixed, source, shapes, ema=ema) <= EXACT
    small = functools.partial(theirs, eps=1e-8)  # theirs adds ε to √v, ours to √v̂
    assert continued(small, mixed, source, shapes, ema=ema) <= 1e-8


def test_names_go_with_the_parameters_of_a_group_that_is_parted() -> None:
    shapes: list[tuple[int, ...]] = [(8, 5), (7,), (5, 8), ()]
    there, here = parameters(shapes=shapes), parameters(shapes=shapes)
    reference = OneGroup(there, wd=0.1)
    step([(reference, there)], 5, seed=1)
    saved = reference.state_dict()
    saved["param_groups"][0]["param_names"] = list("abcd")
    converted = convert(saved, "moonlight")
    assert [group["param_names"] for group in converted["param_groups"]] == [["a", "c"], ["b", "d"]]
    a, b, c, d = zip("abcd", here, strict=True)
    optimizer = thalweg.Mixed([{"params": [d, b], "optimizer": "adamw"}, {"params": [c, a], "optimizer": "muon"}])
    optimizer.load_state_dict(converted)
    with torch.no_grad():
        for p, q in zip(here, there, strict=True):
            p.copy_(q)
    step([(optimizer, here), (reference, there)], 8, seed=2)
    assert error(here, there) <= EXACT


def test_the_sum_is_the_average_over_one_minus_momentum() -> None:
    saved = saved_by(functools.partial(OneGroup, wd=0.1), MATRICES)
    (kept,), (scaled,) = (convert(saved, "moonlight", ema=ema)["param_groups"] for ema in (None, True))
    assert (kept["ema"], kept["eps"], scaled["ema"]) == (False, 1e-7, True)
    buffers = [convert(saved, "moonlight", ema=ema)["state"][0]["momentum_buffer"] for ema in (True, False)]
    assert error([buffers[0]], [buffers[1] * 0.1]) <= EXACT
    assert scaled["eps"] == pytest.approx(1e-8)


@pytest.mark.parametrize("adjust", [None, "original", "match_rms_adamw"])
@pytest.mark.parametrize("ema", [None, False])
def test_torch_muon(ema: bool | None, adjust: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = functools.partial(torch.optim.Muon, lr=0.02, momentum=0.9, adjust_lr_fn=adjust)
    short = functools.partial(thalweg.Muon, arithmetic="bfloat16")
    assert (
        continued(theirs, short, "torch_muon", MATRICES, torch.float32, ema=ema) <= 2e-3
    )  # orders of rounding in bfloat16
    monkeypatch.setattr(torch_muon, "_zeropower_via_newtonschulz", orthogonal)
    assert continued(theirs, thalweg.Muon, "torch_muon", MATRICES, ema=ema) <= EXACT


def test_muon_refusals() -> None:
    made = saved_by(functools.partial(torch.optim.Muon, ns_coefficients=(2.0, -1.5, 0.5)), MATRICES)
    refused(ValueError, r"ns_coefficients=\(2.0, -1.5, 0.5\) has no counterpart", made, "torch_muon")
    refused(ValueError, "it is of torch.optim.Muon; take source='torch_muon'", made, "keller_muon")
    refused(ValueError, "is of no class of torch.optim", saved_by(Keller, MATRICES), "torch")
    for wd in (functools.partial(OneGroup, wd=0.1), functools.partial(torch.optim.SGD, momentum=0.9)):
        refused(ValueError, "source='moonlight'|it is of SGD", saved_by(wd, MATRICES), "keller_muon")
    refused(ValueError, "expected is torch.optim.Muon, which has 'lr'", saved_by(Keller, MATRICES), "torch_muon")
    refused(ValueError, "lacks 'use_muon'; expected is one class for both", saved_by(Keller, MATRICES), "moonlight")
    old = saved_by(functools.partial(OneGroup, adamw_lr_ratio=0.3, adamw_wd=0.0), MATRICES)
    refused(ValueError, "expected is Moonlight's Muon, use_muon=True, which has .*'wd'", old, "moonlight")
    refused(
        ValueError,
        r"is 'step', 'exp_avg', .*; expected is 'momentum_buffer'",
        saved_by(torch.optim.AdamW) | {"param_groups": [{"params": [*range(6)], "lr": 0.1, "momentum": 0.9}]},
        "keller_muon",
    )
    with pytest.raises(ValueError, match="group 0 follows Muon; it was saved under muon"):
        thalweg.Muon(parameters(shapes=MATRICES)).load_state_dict(
            convert(saved_by(functools.partial(OneGroup, wd=0.1), MATRICES), "moonlight")
        )


# pytorch_optimizer


PEERS: list[tuple[str, str, dict[str, Any]]] = [
    ("SGDW", "sgd", {"momentum": 0.9, "weight_decay": 0.1}),
    ("SGDW", "sgd", {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True, "weight_decouple": False}),
    ("SGDW", "sgd", {"momentum": 0.9, "dampening": 0.5, "foreach": False}),
    ("SGDW", "sgd", {"weight_decay": 0.1}),
    ("AdaDelta", "adadelta", {"weight_decay": 0.1, "weight_decouple": True}),
    ("AdaDelta", "adadelta", {"weight_decay": 0.1}),
    ("MARS", "mars", {"weight_decay": 0.1, "eps": 0.0, "optimize_1d": True, "foreach": False}),
    ("MARS", "mars", {"weight_decay": 0.03, "weight_decay_1d": 0.1, "eps": 0.0}),  # lr_1d is 0.3 lr: alike
    ("ScheduleFreeSGD", "sgd_schedule_free", {"momentum": 0.7, **FREE}),
    ("ScheduleFreeAdamW", "adamw_schedule_free", {"r": 1.0, **FREE_ADAM}),
]


@pytest.mark.parametrize(("theirs", "ours", "kwargs"), PEERS)
def test_pytorch_optimizer(theirs: str, ours: str, kwargs: dict[str, Any]) -> None:
    make = lambda ps: getattr(pytorch_optimizer, theirs)(grouped(ps), lr=0.01, **kwargs)  # noqa: E731
    told = {"optimizer": theirs}
    assert continued(make, lambda ps: thalweg.create(ours, grouped(ps)), "pytorch_optimizer", **told) <= EXACT


@pytest.mark.parametrize(
    ("kwargs", "bound"),
    [
        ({"eps": 0.0}, EXACT),
        ({"mars_type": "lion", "gamma": 0.1, "eps": 0.0, "lr_1d": 0.02, "weight_decay": 0.1, "foreach": False}, EXACT),
        ({}, 1e-8),  # ε is added to √v, ours to √v̂
    ],
)
def test_pytorch_optimizers_mars_becomes_two_groups(kwargs: dict[str, Any], bound: float) -> None:
    """Its vectors decay by a number of their own."""

    def ours(params: Sequence[Tensor]) -> thalweg.MARS:
        return thalweg.MARS([{"params": [p for p in params if (p.ndim < 2) is flag]} for flag in (False, True)])

    theirs = functools.partial(pytorch_optimizer.MARS, lr=0.01, **kwargs)
    assert continued(theirs, ours, "pytorch_optimizer", optimizer="MARS") <= bound
    fresh = theirs(parameters(shapes=SHAPES)).state_dict()
    refused(ValueError, "have no state to tell which", fresh, "pytorch_optimizer", optimizer="MARS")


@pytest.mark.parametrize("theirs", ["ScheduleFreeSGD", "ScheduleFreeAdamW"])
def test_pytorch_optimizers_schedule_free_in_evaluation_mode(theirs: str) -> None:
    there = parameters(shapes=SHAPES)
    reference = getattr(pytorch_optimizer, theirs)(there, lr=0.01)
    step([(reference, there)], 5, seed=1)
    reference.eval()
    saved, here = through_a_file(reference.state_dict()), [nn.Parameter(p.detach().clone()) for p in there]
    reference.train()
    optimizer = thalweg.create({"ScheduleFreeSGD": "sgd_schedule_free"}.get(theirs, "adamw_schedule_free"), here)
    told: dict[str, Any] = {"optimizer": theirs, "weights": here}
    optimizer.load_state_dict(convert(saved, "pytorch_optimizer", **told))
    optimizer.train()  # type: ignore[attr-defined]
    step([(optimizer, here), (reference, there)], 8, seed=2)
    assert error(here, there) <= EXACT


@pytest.mark.parametrize("kwargs", [{}, {"use_adjusted_lr": True, "nesterov": False}, {"weight_decouple": False}])
def test_pytorch_optimizers_muon(kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    exact = functools.partial(zero_power_via_newton_schulz_5, dtype=torch.float64)
    monkeypatch.setattr(peer_muon, "zero_power_via_newton_schulz_5", exact)

    def theirs(params: Sequence[Tensor]) -> Any:
        split = [[p for p in params if (p.ndim > 1) is flag] for flag in (True, False)]
        groups = [{"params": ps, "use_muon": flag} for ps, flag in zip(split, (True, False), strict=True)]
        return pytorch_optimizer.Muon(groups, weight_decay=0.1, adamw_wd=0.05, **kwargs)

    def ours(params: Sequence[Tensor]) -> Any:
        split = [[p for p in params if (p.ndim > 1) is flag] for flag in (True, False)]
        return thalweg.Mixed(
            [{"params": ps, "optimizer": name} for ps, name in zip(split, ("muon", "adamw"), strict=True)]
        )

    assert continued(theirs, ours, "pytorch_optimizer", optimizer="Muon") <= 1e-7  # ε bounds there, is added here


def test_pytorch_optimizer_refusals() -> None:
    mars = saved_by(functools.partial(pytorch_optimizer.MARS, mars_type="shampoo"))
    covered = "covered are 'SGDW', 'AdaDelta', 'MARS', 'ScheduleFreeSGD', 'ScheduleFreeAdamW', 'Muon'"
    refused(ValueError, f"optimizer=None of pytorch_optimizer .*{covered}", mars, "pytorch_optimizer")
    refused(ValueError, "optimizer='Lion'", mars, "pytorch_optimizer", optimizer="Lion")
    refused(ValueError, "Did you mean 'AdaDelta'", mars, "pytorch_optimizer", optimizer="Adadelta")
    refused(ValueError, "mars_type='shampoo' has no counterpart", mars, "pytorch_optimizer", optimizer="MARS")
    refused(ValueError, r"\(SGDW\) lacks 'momentum'", mars, "pytorch_optimizer", optimizer="SGDW")
    radam = saved_by(pytorch_optimizer.ScheduleFreeRAdam)
    refused(ValueError, "lacks 'warmup_steps'", radam, "pytorch_optimizer", optimizer="ScheduleFreeAdamW")


# Every source


@pytest.mark.parametrize(
    ("kind", "message", "saved", "source", "told"),
    [
        (ValueError, "source='schedule_free' is unknown. Did you mean 'schedulefree'", {}, "schedule_free", {}),
        (TypeError, "a state dict is needed, not list", [], "torch", {}),
        (ValueError, "this one has 'model', 'optimizer'", {"model": 1, "optimizer": 2}, "moonlight", {}),
        (ValueError, "state for 7, which no group", {"state": {7: {}}, "param_groups": [{"params": [0]}]}, "torch", {}),
        (ValueError, "group 0 must be a dict", {"state": {}, "param_groups": [3]}, "keller_muon", {}),
        (TypeError, "ema is for source='keller_muon' or .*, not 'torch'", {}, "torch", {"ema": True}),
        (TypeError, "optimizer is for source='pytorch_optimizer', not 'torch'", {}, "torch", {"optimizer": "SGD"}),
        (TypeError, "weights is for source='schedulefree' or 'pytorch_optimizer'", {}, "torch_muon", {"weights": []}),
    ],
)
def test_what_is_no_state_dict_or_no_source(
    kind: type[Exception], message: str, saved: Any, source: str, told: dict[str, Any]
) -> None:
    refused(kind, message, saved, source, **told)


def test_entries_of_schedules_stay() -> None:
    params = parameters(shapes=MATRICES)
    reference = OneGroup(params, adamw_lr_ratio=0.5, adamw_wd=0.0)
    reference.state[params[0]]["use_muon"] = False
    torch.optim.lr_scheduler.LambdaLR(reference, lambda _: 0.5)
    muon, adam = convert(reference.state_dict(), "keller_muon")["param_groups"]
    assert (muon["initial_lr"], adam["initial_lr"], muon["lr"], adam["lr"]) == (0.01, 0.005, 0.005, 0.0025)
    assert (muon["params"], adam["params"]) == ([1, 2], [0])
