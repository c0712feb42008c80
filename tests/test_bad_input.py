"""Generated nonsense: each is refused by name with nothing changed, or does what an independent reading says it should."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from test_checkpoint import bits, snapshot
from torch import Tensor, nn

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.trial import run_together
from thalweg.core import carried

PLAIN = [spec for spec in SPECS if not spec.kwargs and not spec.dims]
RUNS = ("each", "foreach")


def generated(examples: int) -> Any:
    """The same examples on every machine, as many as asked for."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


# Constructors and groups

NUMBERS = {
    **dict.fromkeys(("lr", "weight_decay", "eps", "lr_decay", "momentum_decay", "initial_accumulator_value"), "≥ 0"),
    **dict.fromkeys(("mars", "gamma", "eps2", "diff_mult", "amplification_cap", "rms_clip", "norm_clip"), "≥ 0"),
    **dict.fromkeys(("momentum", "momentum_beta"), "[0, 1)"),
    **dict.fromkeys(("rho", "alpha", "centralize", "normalize", "centralization", "power"), "[0, 1]"),
    **dict.fromkeys(("dampening", "amp_fac", "momentum_lambda"), "finite"),
    **dict.fromkeys(("lr_1d", "lr_1d_factor", "r", "weight_lr_power"), "≥ 0"),
}
MAYBE = ("eps_floor", "clip_power")
PAIRS = ("betas", "betas_1d")
FLAGS = (
    "amsgrad",
    "diagnostics",
    "centered",
    "cautious",
    "maximize",
    "ema",
    "eps_inside",
    "normalize_channels",
    "optimize_1d",
    "exact",
    "train_mode",
)
CHOICES: dict[str, tuple[Any, ...]] = {
    "decay": ("decoupled", "l2", "cautious"),
    "precision": ("auto", "stochastic", "nearest"),
    "nonfinite": ("propagate", "skip", "raise"),
    "run": ("auto", "each", "foreach", "compiled"),
    "nesterov": (True, False, "lookahead"),
}


def is_allowed_number(value: Any, kind: str) -> bool:
    if isinstance(value, Tensor):
        if value.ndim or value.dtype == torch.bool or value.is_complex():
            return False
        value = value.item()
    if type(value) not in (int, float) or not math.isfinite(value):
        return False
    return {"≥ 0": value >= 0, "[0, 1)": 0 <= value < 1, "[0, 1]": 0 <= value <= 1, "finite": True}[kind]


def is_allowed(name: str, value: Any) -> bool:
    if name in NUMBERS:
        return is_allowed_number(value, NUMBERS[name])
    if name in FLAGS:
        return value is True or value is False
    if name in CHOICES:
        return any(type(value) is type(c) and value == c for c in CHOICES[name])
    if name in MAYBE:
        return value is None or is_allowed_number(value, "≥ 0")
    if name in PAIRS:
        return (
            isinstance(value, tuple | list) and len(value) == 2 and all(is_allowed_number(b, "[0, 1)") for b in value)
        )
    if name in ("seed", "warmup_steps"):
        value = value.item() if isinstance(value, Tensor) and not value.ndim else value
        return type(value) is int and 0 <= value < 1 << 31
    if name == "average":
        pair = isinstance(value, tuple | list) and len(value) == 2
        if pair and value[0] == "schedule_free":
            return is_allowed_number(value[1], "[0, 1]") and value[1] >= 1e-6
        return value in (None, "schedule_free", "ema") or (
            pair and value[0] == "ema" and is_allowed_number(value[1], "[0, 1)")
        )
    assert name == "clip", name
    if isinstance(value, tuple | list):
        kinds = ("global_norm", "norm", "rms", "value", "adaptive")
        return len(value) == 2 and value[0] in kinds and is_allowed_number(value[1], "≥ 0")
    return value is None or is_allowed_number(value, "≥ 0")


scalars = st.one_of(
    st.floats(),
    st.integers(-(1 << 40), 1 << 40),
    st.sampled_from([0, 1, 0.0, -0.0, 0.5, 1.0, 1 - 1e-17, 5e-324, 1e308, True, False, None, 1j, "0.1", b"1", ""]),
)
values = st.one_of(
    scalars,
    scalars.map(lambda x: torch.tensor(x) if isinstance(x, bool | int | float | complex) else x),
    st.lists(scalars, max_size=3),
    st.tuples(scalars, scalars),
    st.tuples(st.sampled_from(["ema", "schedule_free"]), scalars),
    st.tuples(st.sampled_from(["global_norm", "norm", "rms", "value", "adaptive", "size", 3]), scalars),
    st.sampled_from([c for choices in CHOICES.values() for c in choices]),
    st.sampled_from(
        [torch.ones(2), torch.ones(1), {}, {"a": 1}, set(), object(), len, "Decoupled", "skip ", "ema", "schedule_free"]
    ),
)


@generated(700)
@given(st.sampled_from(PLAIN), st.data())
def test_hyperparameters(spec: Spec, data: st.DataObject) -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = thalweg.create(spec.name, [p], lr=0.1)
    name = data.draw(st.sampled_from([n for n in optimizer.defaults if n != "differentiable"]), "name")
    value = data.draw(values, "value")
    assume(
        spec.name != "sgd" or name not in ("nesterov", "ema") or value is False
    )  # these have conditions of their own
    assume(name != "variant")  # each class has its own
    schedule_free = optimizer.defaults["average"] == "schedule_free"
    assume(schedule_free or name not in ("warmup_steps", "r", "weight_lr_power"))  # which are for that average
    assume(not schedule_free or name not in ("betas", "momentum"))  # which is its own there
    assume(name not in ("clip", "decay") or spec.name not in ("dope", "exmachina"))  # of which these have more
    if is_allowed(name, value):
        thalweg.create(spec.name, [p], **({"lr": 0.1} | {name: value}))
        return
    with pytest.raises((TypeError, ValueError)) as raised:
        thalweg.create(spec.name, [p], **({"lr": 0.1} | {name: value}))
    assert f"{type(optimizer).__name__}: {name}" in str(raised.value)
    before = snapshot(optimizer)
    with pytest.raises((TypeError, ValueError), match=name):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], name: value})
    assert snapshot(optimizer) == before


@generated(60)
@given(st.sampled_from(PLAIN), st.text("abcdefghijklmnop_", min_size=1, max_size=12))
def test_unknown_keywords(spec: Spec, keyword: str) -> None:
    p = nn.Parameter(torch.ones(3))
    assume(keyword not in thalweg.create(spec.name, [p]).defaults)
    with pytest.raises(TypeError, match=repr(keyword)):
        thalweg.create(spec.name, [p], **{keyword: 1})


# Gradients

elements = st.sampled_from(
    [0.0, -0.0, 1.0, -2.5, 5e-324, -1e-310, 1e-160, 1e-30, -1e30, 1e100, 1e140, math.nan, math.inf, -math.inf]
)
tame = st.sampled_from([0.0, -0.0, 1.0, -2.5, 5e-324, -1e-310, 1e-160, 1e-30, -1e30, 1e100, 1e140])


@generated(350)
@given(
    spec=st.sampled_from(PLAIN),
    run=st.sampled_from(RUNS),
    policy=st.sampled_from(["propagate", "skip", "raise"]),
    history=st.lists(st.lists(tame, min_size=3, max_size=3), max_size=2),
    last=st.lists(elements, min_size=3, max_size=3),
)
def test_gradients_of_any_value(
    spec: Spec, run: str, policy: str, history: list[list[float]], last: list[float]
) -> None:
    ours, theirs = (nn.Parameter(torch.tensor([1.0, -2.0, 0.5])) for _ in range(2))
    optimizer = thalweg.create(spec.name, [("w", ours)], lr=spec.lr, run=run, nonfinite=policy)
    oracle = spec.oracle([theirs], lr=spec.lr, **spec.oracle_kwargs)
    comparable = spec.oracle_name.startswith("torch ")  # the same operations in the same order, to the bit
    for values in history:
        for p, o in ((ours, optimizer), (theirs, oracle)):
            p.grad = torch.tensor(values)
            o.step()
    if comparable:
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0, equal_nan=True)
    ours.grad, theirs.grad = torch.tensor(last), torch.tensor(last)
    finite = all(map(math.isfinite, last))
    before = snapshot(optimizer)
    if policy == "raise" and not finite:
        with pytest.raises(FloatingPointError, match="gradient of 'w'"):
            optimizer.step()
        assert snapshot(optimizer) == before
        return
    optimizer.step()
    if policy == "skip" and not finite:
        assert bits(ours) == before[2][0]
        after = {n: s for n, s in snapshot(optimizer)[3][0].items() if before[3][0] or s[1].strip(b"\0")}
        assert after == before[3][0] or not history  # in the first step state appears, as it starts
        return
    oracle.step()
    if comparable:
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0, equal_nan=True)


@generated(60)
@given(
    st.sampled_from(PLAIN),
    st.sampled_from(RUNS),
    st.sampled_from(["sparse", "complex", "shape", "integer parameter"]),
    st.integers(0, 1),
)
def test_gradients_of_another_kind(spec: Spec, run: str, kind: str, steps: int) -> None:
    good, bad = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4, 2))
    optimizer = thalweg.create(spec.name, [("good", good), ("bad", bad)], lr=0.1, run=run)
    if steps:
        run_together([(optimizer, [good, bad])], steps)
    good.grad = torch.ones(3)
    if kind == "sparse":
        bad.grad = torch.ones(4, 2).to_sparse()
    elif kind == "complex":
        bad.data = bad.data.to(torch.complex128)
        bad.grad = torch.ones(4, 2, dtype=torch.complex128)
    elif kind == "shape":
        bad.grad = torch.ones(4, 2)
        bad.data = torch.ones(5, 2)
    else:
        bad.requires_grad_(False)
        bad.data = torch.ones(4, 2, dtype=torch.int64)
        bad.grad = torch.ones(4, 2, dtype=torch.int64)
    kept, state = bits(good), {n: bits(s) for n, s in optimizer.state[good].items()}
    with pytest.raises((TypeError, ValueError), match="of 'bad'"):
        optimizer.step()
    assert bits(good) == kept
    assert {n: bits(s) for n, s in optimizer.state[good].items()} == state


@pytest.mark.parametrize("run", RUNS)
def test_a_parameter_resized_after_its_state_was_made(run: str) -> None:
    p = nn.Parameter(torch.ones(1))
    optimizer = thalweg.AdamW([("w", p)], run=run)
    run_together([(optimizer, [p])], 2)
    p.data, p.grad = torch.ones(4), None
    p.grad = torch.ones(4)
    with pytest.raises(ValueError, match=r"the exp_avg of 'w' has shape \(1,\), the parameter \(4,\)"):
        optimizer.step()
    assert torch.equal(p, torch.ones(4))


# State dicts


def trained(spec: Spec, named: bool) -> tuple[torch.optim.Optimizer, list[Tensor]]:
    params: list[Tensor] = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))]
    given = [("a", params[0]), ("b", params[1])] if named else params
    optimizer = thalweg.create(spec.name, given, lr=0.1, **({"momentum": 0.9} if spec.name == "sgd" else {}))
    run_together([(optimizer, params)], 2)
    return optimizer, params


leaves = st.one_of(
    scalars,
    st.sampled_from(
        [torch.ones(2, 3), torch.ones(4), torch.ones(()), torch.ones(3, 2), torch.ones(0), torch.ones(4).int()]
    ),
    st.sampled_from(
        [torch.tensor(-1.0), torch.tensor(math.nan), torch.ones(4).to_sparse(), [], {}, torch.ones(4) * 1j]
    ),
)


def damage(saved: dict[str, Any], data: st.DataObject) -> None:
    """One wrong thing, anywhere."""
    group = saved["param_groups"][0]
    number = data.draw(st.sampled_from(list(saved["state"])), "parameter")
    own = saved["state"][number]
    what = data.draw(
        st.sampled_from(["drop", "add", "replace", "ids", "names", "section", "number", "option"]), "damage"
    )
    if what == "drop":
        del own[data.draw(st.sampled_from(list(own)))]
    elif what == "add":
        own[data.draw(st.text(min_size=1, max_size=5))] = data.draw(leaves)
    elif what == "replace":
        own[data.draw(st.sampled_from(list(own)))] = data.draw(leaves)
    elif what == "ids":
        group["params"] = data.draw(st.lists(st.integers(0, 3), max_size=3))
    elif what == "names":
        group["param_names"] = data.draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=3))
    elif what == "section":
        saved[data.draw(st.sampled_from(["state", "param_groups"]))] = data.draw(
            st.sampled_from([None, [], {}, 3, [3]])
        )
    elif what == "number":
        saved["state"][data.draw(st.integers(2, 9))] = own
    else:
        group[data.draw(st.sampled_from([n for n in group if n not in ("params", "param_names")]))] = data.draw(values)


@generated(600)
@given(spec=st.sampled_from(PLAIN), named=st.booleans(), data=st.data())
def test_damaged_state_dicts(spec: Spec, named: bool, data: st.DataObject) -> None:
    """Refused, nothing changed; or taken, and then all that was taken is of the kind and size the rule needs."""
    optimizer, params = trained(spec, named)
    saved = copy.deepcopy(optimizer.state_dict())
    damage(saved, data)
    before = snapshot(optimizer)
    refusal = ""
    try:
        optimizer.load_state_dict(saved)
    except (TypeError, ValueError) as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith(f"{type(optimizer).__name__}: ")
        assert snapshot(optimizer) == before
        return
    group = optimizer.param_groups[0]
    rule = optimizer.rule_of(group)  # type: ignore[attr-defined]
    tensors, numbers = rule.tensors | carried.tensors(rule, group), carried.counters(rule, group)
    for p in params:
        own = optimizer.state.get(p, {})
        assert own.keys() <= tensors.keys() | numbers.keys()
        for n in tensors.keys() & own.keys():
            assert (own[n].shape, own[n].dtype) == (p.shape, p.dtype)
            assert own[n].untyped_storage().data_ptr() not in {
                s[n].untyped_storage().data_ptr() for s in saved["state"].values() if isinstance(s.get(n), Tensor)
            }
        assert all(own[n].ndim == 0 and 0 <= own[n] < math.inf for n in numbers.keys() & own.keys())
        p.grad = torch.ones_like(p)
    for group in optimizer.param_groups:
        own = (n for n in optimizer.defaults if n not in ("differentiable", "variant", "clip", "decay"))
        assert not [n for n in own if not is_allowed(n, group[n])]
    optimizer.step()


@generated(60)
@given(st.sampled_from(PLAIN), st.floats(0, 1, exclude_max=True))
def test_truncated_files(spec: Spec, part: float) -> None:
    optimizer, _ = trained(spec, named=True)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    before = snapshot(optimizer)
    cut = io.BytesIO(file.getvalue()[: int(part * file.tell())])
    with pytest.raises((RuntimeError, EOFError, ValueError, pickle.UnpicklingError)):
        optimizer.load_state_dict(torch.load(cut, weights_only=True))
    assert snapshot(optimizer) == before
