"""Saved and loaded: bit for bit with ourselves, within rounding with torch, all or nothing with everything else."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_options import OPTIONS, name
from torch import Tensor, nn

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.checks import Case, dcp, reordered
from thalweg.conformance.trial import STRATEGIES, error, parameters, run_together

PLAIN = [spec for spec in SPECS if not spec.kwargs]
TORCHS = [spec for spec in SPECS if spec.oracle.__module__.startswith("torch.")]
SHAPES = [(), (7,), (8, 5), (2, 3, 3, 3), (0, 3), (150, 130)]


def snapshot(optimizer: torch.optim.Optimizer) -> tuple[Any, ...]:
    """Everything an optimizer holds, to the bit."""
    groups = [{n: repr(v) for n, v in g.items() if n != "params"} for g in optimizer.param_groups]
    params = [p for g in optimizer.param_groups for p in g["params"]]
    state = [{n: (s.dtype, bits(s)) for n, s in optimizer.state.get(p, {}).items()} for p in params]
    return groups, [id(p) for p in params], [bits(p) for p in params], state


def bits(x: Tensor) -> bytes:
    return x.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("run", ["each", "foreach", pytest.param("compiled", marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", OPTIONS, ids=name)
@pytest.mark.parametrize("spec", PLAIN, ids=lambda spec: spec.id)
def test_every_rule_and_option_resumes_to_the_bit(
    spec: Spec, options: dict[str, Any], run: str, dtype: torch.dtype
) -> None:
    case = Case(replace(spec, kwargs=spec.kwargs | options), run, dtype, shapes=SHAPES)
    assert reordered(case) == 0
    if dtype == torch.bfloat16:
        assert dcp(case) == 0


@pytest.mark.parametrize("options", [OPTIONS[-1], {"nonfinite": "skip", "clip": 0.1}], ids=name)
def test_compiled_resumes_to_the_bit(options: dict[str, Any]) -> None:
    spec = next(spec for spec in PLAIN if spec.name == "adamw")
    case = Case(replace(spec, kwargs=options), "compiled", torch.float32, shapes=SHAPES)
    assert reordered(case) == dcp(case) == 0


@pytest.mark.parametrize("spec", PLAIN, ids=lambda spec: spec.id)
def test_copies_and_pickles_continue(spec: Spec) -> None:
    ours = parameters(torch.bfloat16, spec.takes(SHAPES))
    optimizer = thalweg.create(spec.name, ours, lr=0.01)
    run_together([(optimizer, ours)], steps=3)
    copied, pickled = copy.deepcopy((optimizer, ours)), pickle.loads(pickle.dumps((optimizer, ours)))
    run_together([(optimizer, ours), copied, pickled], steps=3, seed=5)
    for _, params in (copied, pickled):
        assert all(torch.equal(a, b) for a, b in zip(ours, params, strict=True))


# torch


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spec", TORCHS, ids=lambda s: s.id)
def test_checkpoints_pass_both_ways_between_torch_and_us(spec: Spec, dtype: torch.dtype) -> None:
    """With the hyperparameters they were saved with: the receiver is made with its defaults.

    torch keeps bfloat16 state and rounds within the step, so in bfloat16 the two only stay near each other.
    """

    def both(ours_first: bool) -> float:
        first, second = parameters(dtype), parameters(dtype)
        ours = thalweg.create(spec.name, first, lr=spec.lr, **(spec.kwargs if ours_first else {}))
        theirs = spec.oracle(second, lr=spec.lr, **({} if ours_first else spec.oracle_kwargs))
        runs = [(ours, first), (theirs, second)]
        (source, here), (target, there) = runs if ours_first else runs[::-1]
        run_together([(source, here)], steps=3)
        with torch.no_grad():
            for p, q in zip(there, here, strict=True):
                p.copy_(q)
        target.load_state_dict(copy.deepcopy(source.state_dict()))
        run_together(runs, steps=3, seed=2)
        return error(first, second)

    assert max(both(ours_first=True), both(ours_first=False)) <= {torch.float64: 1e-12, torch.bfloat16: 5e-2}[dtype]


def test_a_torch_checkpoint_keeps_what_it_does_not_speak_of() -> None:
    theirs = parameters(shapes=[(3,)])
    source = torch.optim.AdamW(theirs, lr=0.5, fused=True)
    run_together([(source, theirs)], steps=2)
    optimizer = thalweg.AdamW(parameters(shapes=[(3,)]), lr=0.1, cautious=True, run="each", clip=1.0)
    optimizer.load_state_dict(source.state_dict())
    group = optimizer.param_groups[0]
    assert (group["lr"], group["cautious"], group["run"], group["clip"], group["decay"]) == (
        0.5,
        True,
        "each",
        1.0,
        "decoupled",
    )
    assert not {"fused", "foreach", "capturable", "differentiable", "decoupled_weight_decay"} & group.keys()


def test_a_state_dict_of_torch_without_a_step_count_is_only_for_rules_that_need_none() -> None:
    theirs = parameters(shapes=[(3,)])
    source = torch.optim.AdamW(theirs)
    run_together([(source, theirs)], steps=2)
    saved = copy.deepcopy(source.state_dict())
    del saved["state"][0]["step"]
    optimizer = thalweg.AdamW(parameters(shapes=[(3,)]))
    with pytest.raises(ValueError, match="it needs 'exp_avg', 'exp_avg_sq', 'step'"):
        optimizer.load_state_dict(saved)


# What is kept


def test_state_of_short_parameters_stays_float32_through_a_file(tmp_path: Any) -> None:
    ours = parameters(torch.bfloat16, [(50,)])
    optimizer = thalweg.AdamW(ours)
    run_together([(optimizer, ours)], steps=3)
    torch.save(optimizer.state_dict(), tmp_path / "o.pt")
    other = thalweg.AdamW(parameters(torch.bfloat16, [(50,)]))
    other.load_state_dict(torch.load(tmp_path / "o.pt", weights_only=True))
    (state,) = other.state.values()
    assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float32
    assert torch.equal(state["exp_avg_sq"], optimizer.state[ours[0]]["exp_avg_sq"])


def test_nothing_is_shared_with_what_was_loaded() -> None:
    ours, theirs = parameters(shapes=[(3,), (2, 2)]), parameters(shapes=[(3,), (2, 2)])
    optimizer = thalweg.NAdam(ours, lr=torch.tensor(0.1), betas=(torch.tensor(0.9), 0.99))
    run_together([(optimizer, ours)], steps=2)
    saved = copy.deepcopy(optimizer.state_dict())
    kept = copy.deepcopy(saved)
    other = thalweg.NAdam(theirs)
    other.load_state_dict(saved)
    run_together([(other, theirs)], steps=2)
    other.param_groups[0]["lr"].fill_(7.0)
    assert repr(saved) == repr(kept)


def test_saved_counters_are_not_shared() -> None:
    """They are one tensor in memory; a torch optimizer that loads them adds to each in place."""
    ours = parameters(shapes=[(3,), (4,)])
    optimizer = thalweg.Adam(ours)
    run_together([(optimizer, ours)], steps=3)
    steps = [state["step"] for state in optimizer.state_dict()["state"].values()]
    assert len({step.data_ptr() for step in steps}) == len(steps)


def test_the_seed_of_stochastic_rounding_survives() -> None:
    ours, theirs = parameters(torch.bfloat16), parameters(torch.bfloat16)
    optimizer, other = thalweg.AdamW(ours, seed=5), thalweg.AdamW(theirs, seed=6)
    other.load_state_dict(optimizer.state_dict())
    run_together([(optimizer, ours), (other, theirs)], steps=3)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    different = parameters(torch.bfloat16)
    run_together([(thalweg.AdamW(different, seed=6), different)], steps=3)
    assert not all(torch.equal(a, b) for a, b in zip(ours, different, strict=True))


def test_hooks_run_around_loading() -> None:
    ours = parameters(shapes=[(3,)])
    optimizer = thalweg.AdamW(ours)
    run_together([(optimizer, ours)], steps=1)
    seen: list[Any] = []

    def before(o: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
        seen.append(o.param_groups[0]["lr"])
        groups = [group | {"lr": 0.7} for group in saved["param_groups"]]
        return saved | {"param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(before)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(o.param_groups[0]["lr"]))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == [1e-3, 0.7]


def test_parameters_that_had_no_gradient_have_no_state_and_get_it_later() -> None:
    ours = parameters(shapes=[(3,), (4,)])
    optimizer = thalweg.NAdam(ours)
    ours[0].grad = torch.ones(3)
    optimizer.step()
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    other = thalweg.NAdam(theirs)
    other.load_state_dict(optimizer.state_dict())
    assert list(other.state) == theirs[:1]
    run_together([(optimizer, ours), (other, theirs)], steps=3)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# Names


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x).relu())


def grouped(model: nn.Module, order: Callable[[list[Any]], list[Any]] = list) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    decay = [(n, p) for n, p in named if p.ndim > 1]
    rest = [(n, p) for n, p in named if p.ndim <= 1]
    return order([{"params": order(decay), "weight_decay": 0.1}, {"params": order(rest), "weight_decay": 0.0}])


def trained(model: nn.Module, params: Any) -> thalweg.AdamW:
    optimizer = thalweg.AdamW(params)
    run_together([(optimizer, list(model.parameters()))], steps=2)
    return optimizer


def test_groups_and_parameters_are_found_by_name_in_any_order() -> None:
    model = Net()
    optimizer = trained(model, grouped(model))
    other_model = copy.deepcopy(model)
    other = thalweg.AdamW(grouped(other_model, lambda items: items[::-1]), lr=0.5)
    other.load_state_dict(optimizer.state_dict())
    assert [g["weight_decay"] for g in other.param_groups] == [0.0, 0.1]
    assert other.param_groups[0]["param_names"] == ["head.bias", "inner.bias"]
    for (n, p), q in zip(model.named_parameters(), other_model.parameters(), strict=True):
        assert torch.equal(optimizer.state[p]["exp_avg"], other.state[q]["exp_avg"]), n


@pytest.mark.parametrize(
    "wrap", [torch.compile, lambda model: nn.ModuleDict({"module": model})], ids=["compile", "ddp"]
)
def test_names_may_differ_by_a_wrapper(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = Net()
    wrapped = wrap(model)
    assert [n for n, _ in wrapped.named_parameters()] != [n for n, _ in model.named_parameters()]
    for first, second in ((model, wrapped), (wrapped, model)):
        optimizer = trained(first, first.named_parameters())
        other = thalweg.AdamW(reversed(list(second.named_parameters())))
        other.load_state_dict(optimizer.state_dict())
        assert all(torch.equal(other.state[p]["exp_avg"], s["exp_avg"]) for p, s in optimizer.state.items())


def test_two_models_may_use_the_same_names() -> None:
    models = Net(), Net()
    optimizer = thalweg.AdamW([{"params": list(m.named_parameters())} for m in models])
    run_together([(optimizer, [p for m in models for p in m.parameters()])], steps=2)
    other = thalweg.AdamW([{"params": list(m.named_parameters())[::-1]} for m in models])
    other.load_state_dict(optimizer.state_dict())
    assert all(torch.equal(other.state[p]["exp_avg"], s["exp_avg"]) for p, s in optimizer.state.items())


def renamed(saved: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    groups = [g | {"param_names": [new if n == old else n for n in g["param_names"]]} for g in saved["param_groups"]]
    return saved | {"param_groups": groups}


def test_names_that_do_not_match_are_listed() -> None:
    model = Net()
    optimizer = trained(model, grouped(model))
    saved = optimizer.state_dict()
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=r"lacks 'inner.weight' and it has 'outer.weight'"):
        optimizer.load_state_dict(renamed(saved, "inner.weight", "outer.weight"))
    with pytest.raises(ValueError, match="must name each of its parameters once"):
        optimizer.load_state_dict(renamed(saved, "inner.weight", "head.weight"))
    with pytest.raises(ValueError, match="groups the parameters otherwise"):
        optimizer.load_state_dict(thalweg.AdamW(model.named_parameters()).state_dict())
    assert snapshot(optimizer) == before


def test_names_on_one_side_only_are_not_used() -> None:
    model = Net()
    optimizer = trained(model, model.named_parameters())
    other = thalweg.AdamW(model.parameters())
    other.load_state_dict(optimizer.state_dict())
    assert all(torch.equal(other.state[p]["exp_avg"], s["exp_avg"]) for p, s in optimizer.state.items())
    with pytest.raises(ValueError, match=r"parameter 0 of group 0: exp_avg has shape \(4, 3\).*is \(4,\)"):
        thalweg.AdamW(list(model.parameters())[::-1]).load_state_dict(optimizer.state_dict())


# All or nothing


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def make(saved: dict[str, Any]) -> Any:
        saved = copy.deepcopy(saved)
        return change(saved) or saved

    return make


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda s: [s], TypeError, "a state dict is needed, not list"),
        (lambda s: {"state": {}}, ValueError, "has a list 'param_groups'"),
        (lambda s: s | {"param_groups": [1]}, ValueError, "group 0 of the state dict must be a dict"),
        (lambda s: s["param_groups"][0].pop("lr") and None, ValueError, "an 'lr'"),
        (lambda s: s["param_groups"].append(s["param_groups"][0]), ValueError, r"groups of \[3, 3\] parameters"),
        (lambda s: s["param_groups"][0]["params"].pop() and None, ValueError, r"groups of \[2\]"),
        (lambda s: s["param_groups"][0].update(lr=-1.0), ValueError, "lr=-1.0 is out of range"),
        (lambda s: s["param_groups"][0].update(betas=(0.9, "x")), TypeError, r"betas\[1\]='x'"),
        (lambda s: s["state"].update({9: {}}), ValueError, "state for 9"),
        (lambda s: s["state"].update({2: 3}), TypeError, "parameter 2 of group 0 is int"),
        (lambda s: s["state"][2].update(exp_avg=None), ValueError, "another rule, or not complete"),
        (lambda s: s["state"][2].update(momentum_buffer=torch.ones(5)), ValueError, "another rule"),
        (lambda s: s["param_groups"][0].update(amsgrad=True), ValueError, "'max_exp_avg_sq'"),
        (lambda s: s["state"][2].update(exp_avg=torch.ones(4)), ValueError, r"shape \(4,\); the parameter's is \(5,\)"),
        (lambda s: s["state"][2].update(exp_avg=torch.ones(5, dtype=torch.int)), TypeError, "int32"),
        (lambda s: s["state"][2].update(exp_avg=[1.0] * 5), TypeError, "is list"),
        (lambda s: s["state"][2].update(exp_avg=torch.ones(5).to_sparse()), TypeError, "dense"),
        (lambda s: s["state"][2].update(step=torch.ones(5)), TypeError, "must be one number"),
        (lambda s: s["state"][2].update(step="3"), TypeError, "must be one number"),
        (lambda s: s["state"][2].update(step=-1), ValueError, "step=-1 is out of range"),
        (lambda s: s["state"][2].update(step=torch.tensor(float("nan"))), ValueError, "step=nan"),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(
    change: Callable[[dict[str, Any]], Any], kind: type[Exception], message: str
) -> None:
    ours = parameters(shapes=[(3,), (4,), (5,)])
    optimizer = thalweg.AdamW(ours)
    run_together([(optimizer, ours)], steps=2)
    before = snapshot(optimizer)
    with pytest.raises(kind, match=message):
        optimizer.load_state_dict(edited(change)(optimizer.state_dict()))
    assert snapshot(optimizer) == before


@pytest.mark.parametrize("theirs", PLAIN, ids=lambda spec: spec.id)
@pytest.mark.parametrize("ours", PLAIN, ids=lambda spec: spec.id)
def test_the_state_of_another_rule_is_refused(ours: Spec, theirs: Spec) -> None:
    params = parameters(shapes=[(3, 2)])
    optimizer = thalweg.create(ours.name, params)
    other = thalweg.create(theirs.name, params)
    run_together([(other, params)], steps=2)
    alike = ({"adam", "adamw", "saveus"}, {"dope", "exmachina"}, {ours.name})  # states of the same names
    if any({ours.name, theirs.name} <= names for names in alike) or (ours.name, theirs.name) == ("sgd", "muon"):
        optimizer.load_state_dict(other.state_dict())
        return
    with pytest.raises(ValueError, match=r"another rule|variant|preconditioner|momentum=0"):
        optimizer.load_state_dict(other.state_dict())
    assert not optimizer.state


@pytest.mark.parametrize("run", STRATEGIES)
def test_loading_in_the_middle_of_a_run_takes_effect(run: str) -> None:
    """The plan of the last step holds the old state; it must not be used again."""
    ours, theirs = parameters(), parameters()
    optimizer, other = thalweg.AdamW(ours, run=run), thalweg.AdamW(theirs, run=run)
    run_together([(optimizer, ours)], steps=3)
    start, begin = copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in ours]
    run_together([(optimizer, ours)], steps=2, seed=3)
    optimizer.load_state_dict(start)
    other.load_state_dict(start)
    with torch.no_grad():
        for p, q, x in zip(ours, theirs, begin, strict=True):
            p.copy_(x)
            q.copy_(x)
    run_together([(optimizer, ours), (other, theirs)], steps=3, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_counters_written_by_others_are_read_again() -> None:
    ours, theirs = parameters(shapes=[(3,)]), parameters(shapes=[(3,)])
    pair = [thalweg.AdamW(ours), torch.optim.AdamW(theirs)]
    runs = list(zip(pair, (ours, theirs), strict=True))
    run_together(runs, steps=3)
    for optimizer, (p,) in runs:
        optimizer.state[p]["step"].fill_(1.0)
    run_together(runs, steps=3)
    assert error(ours, theirs) <= 1e-12
