"""What a NaN or infinite gradient does under each policy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.trial import STRATEGIES, error, parameters, run_together

RULES = [spec for spec in SPECS if (not spec.kwargs or "momentum" in spec.kwargs) and not spec.dims]


def everything(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> list[Tensor]:
    tensors = [*params, *(s for p in params for s in optimizer.state[p].values())]
    return [copy.deepcopy(t.detach()) for t in tensors]


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(-1).view(torch.uint8)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("run", ["each", "foreach"])
@pytest.mark.parametrize("spec", RULES, ids=lambda spec: spec.id)
def test_skip_changes_no_bit(spec: Spec, run: str, bad: float) -> None:
    check_skip(spec.name, run, bad, torch.float64, spec.lr, spec.kwargs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("run", STRATEGIES)
def test_skip_changes_no_bit_in_any_precision(run: str, dtype: torch.dtype) -> None:
    check_skip("nadam", run, float("nan"), dtype, 0.01, {"cautious": True})


def check_skip(name: str, run: str, bad: float, dtype: torch.dtype, lr: float, kwargs: dict[str, Any]) -> None:
    params, plain = parameters(dtype), parameters(dtype)
    optimizer = thalweg.create(name, params, lr=lr, run=run, nonfinite="skip", **kwargs)
    reference = thalweg.create(name, plain, lr=lr, run="each", **kwargs)
    run_together([(optimizer, params), (reference, plain)], steps=3)
    kept = everything(optimizer, params)
    params[-1].grad = torch.ones_like(params[-1])
    params[-1].grad[17] = bad
    optimizer.step()
    assert all(torch.equal(bits(a), bits(b)) for a, b in zip(everything(optimizer, params), kept, strict=True))
    if dtype == torch.float64:  # and training goes on as if the step had not been asked for
        run_together([(optimizer, params), (reference, plain)], steps=3, seed=2)
        assert error(params, plain) <= 1e-12


@pytest.mark.parametrize("run", STRATEGIES)
def test_raise_names_the_parameter_and_changes_nothing(run: str) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = thalweg.AdamW(model.named_parameters(), nonfinite="raise", run=run)
    params = list(model.parameters())
    run_together([(optimizer, params)], steps=2)
    kept = everything(optimizer, params)
    model.bias.grad = torch.tensor([1.0, float("inf")])
    with pytest.raises(FloatingPointError, match="gradient of 'bias'"):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(everything(optimizer, params), kept, strict=True))


def test_raise_in_the_first_step_makes_no_state() -> None:
    p = torch.ones(3).requires_grad_()
    p.grad = torch.full_like(p, float("nan"))
    optimizer = thalweg.AdamW([p], nonfinite="raise")
    with pytest.raises(FloatingPointError):
        optimizer.step()
    assert not optimizer.state


def test_propagate_is_the_default_and_propagates() -> None:
    p = torch.ones(3).requires_grad_()
    p.grad = torch.tensor([1.0, float("nan"), 1.0])
    thalweg.SGD([p]).step()
    assert p.isnan().tolist() == [False, True, False]


def test_large_finite_gradients_are_finite() -> None:
    """Their squares overflow; the test for finiteness must not."""
    p = torch.ones(3, dtype=torch.float32).requires_grad_()
    p.grad = torch.full_like(p, 3e38)
    thalweg.SGD([p], lr=1e-38, nonfinite="skip").step()
    assert (p < 0).all()
