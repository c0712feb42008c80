"""Low-precision parameters: float32 inside, one rounding on the write."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.trial import SHAPES, STRATEGIES, parameters, run_together
from thalweg.core.optimizer import Optimizer
from thalweg.core.precision import stochastic_round

LOW = (torch.bfloat16, torch.float16)
RULES = [spec for spec in SPECS if not spec.kwargs]


def floats(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize("run", ["each", "foreach"])
@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("spec", RULES, ids=lambda spec: spec.id)
def test_one_step_is_the_float32_step_rounded_once(spec: Spec, dtype: torch.dtype, run: str) -> None:
    low = parameters(dtype, spec.takes(SHAPES))
    wide = [p.detach().float().requires_grad_() for p in low]
    lr = min(spec.lr, 0.9)  # 1 would make ties of all
    ours = thalweg.create(spec.name, low, lr=lr, run=run, precision="nearest")
    assert isinstance(ours, Optimizer)
    theirs = spec.oracle(wide, lr=lr, **spec.oracle_kwargs)
    for p, w in zip(low, wide, strict=True):
        p.grad = torch.ones_like(p) * 0.3
        w.grad = p.grad.float()
    ours.step()
    theirs.step()
    for p, w in zip(low, wide, strict=True):
        # The two float32 results may differ in their last bit, which decides a rounding near a tie.
        assert torch.allclose(p, w.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-7)
        assert (p == w.to(dtype)).double().sum() >= 0.999 * p.numel() - 1
        tensors = ours.rule_of(ours.param_groups[0]).tensors
        assert all(ours.state[p][name].dtype == torch.float32 for name in tensors if name in ours.state[p])


def test_strategies_round_alike() -> None:
    results: list[list[Tensor]] = []
    for run in STRATEGIES:
        params = parameters(torch.bfloat16)
        optimizer = thalweg.AdamW(params, lr=1e-3, run=run)
        run_together([(optimizer, params)], steps=5)
        results.append(params)
    for other in results[1:]:
        same = [(a == b).double().mean() for a, b in zip(results[0], other, strict=True) if a.numel()]
        # float32 sums may differ in the last bit, and a bit decides a rounding once in 2^16 or so
        assert min(same) > 0.999


@pytest.mark.parametrize("run", STRATEGIES)
def test_stochastic_rounding_follows_float32_where_nearest_stands_still(run: str) -> None:
    """Steps of 1/1000 of the weight are below bfloat16's resolution of 1/256."""
    moved: dict[str, float] = {}
    for precision in ("nearest", "stochastic"):
        p = torch.ones(20_000, dtype=torch.bfloat16).requires_grad_()
        optimizer = thalweg.SGD([p], lr=1e-3, precision=precision, run=run)
        for _ in range(100):
            p.grad = torch.ones_like(p)
            optimizer.step()
        moved[precision] = 1 - p.detach().double().mean().item()
    assert moved["nearest"] == 0
    assert moved["stochastic"] == pytest.approx(0.1, rel=0.01)


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True), st.integers(0, 0xFFFF))
def test_stochastic_rounding_gives_a_neighbour(value: float, noise: int) -> None:
    w = floats(value)
    rounded = stochastic_round(w, torch.tensor([noise])).float()
    if not torch.isfinite(w).all():
        assert torch.equal(rounded.isnan(), w.isnan())
        assert w.isnan().all() or torch.equal(rounded, w)
        return
    down = (w.view(torch.int32) & -65536).view(torch.float32)
    up = ((w.view(torch.int32) & -65536) + (1 << 16)).view(torch.float32)
    assert torch.equal(rounded, down) or torch.equal(rounded, up)
    if torch.equal(w, down):
        assert torch.equal(rounded, w)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.99))
def test_probability_of_rounding_up_is_the_fraction_cut_off(fraction: float) -> None:
    n = 1 << 16
    w = torch.full((n,), 1.0 + fraction / 128, dtype=torch.float32)
    up = stochastic_round(w, torch.arange(n)) > 1.0
    assert up.double().mean() == pytest.approx(fraction, abs=2e-3)


def test_noise_is_uniform_and_differs_by_seed_step_and_element() -> None:
    from thalweg.core.precision import _mix, _noise  # pyright: ignore[reportPrivateUsage]

    w = torch.empty(100_000)
    first = _noise(w, torch.tensor(0), _mix(1)).double()
    counts = torch.bincount((first // 256).long(), minlength=256).double()
    chi2 = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    assert chi2 < 350  # 255 degrees of freedom: p = 1e-4
    for other in (_noise(w, torch.tensor(0), _mix(2)), _noise(w, torch.tensor(100_000), _mix(1))):
        correlation = torch.corrcoef(torch.stack([first, other.double()]))[0, 1]
        assert abs(correlation) < 0.02
    neighbours = torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1]
    assert abs(neighbours) < 0.02


def test_a_seed_repeats_and_another_differs() -> None:
    def train(**options: Any) -> Tensor:
        p = torch.linspace(0.5, 1, 1000).bfloat16().requires_grad_()
        optimizer = thalweg.SGD([p], lr=1e-3, **options)
        for _ in range(3):
            p.grad = torch.ones_like(p)
            optimizer.step()
        return p.detach()

    assert torch.equal(train(seed=1), train(seed=1))
    assert not torch.equal(train(seed=1), train(seed=2))


def test_float16_never_rounds_stochastically() -> None:
    p = torch.ones(1000, dtype=torch.float16).requires_grad_()
    optimizer = thalweg.SGD([p], lr=1e-4, precision="stochastic")
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert (p == 1).all()
