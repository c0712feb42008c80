"""What a step reports of itself, against the same numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import thalweg
from thalweg.conformance.trial import parameters


def stepped(name: str, **options: Any) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
    """An optimizer after a step, and its two parameters' flattened change, weights before and gradient."""
    params = parameters(torch.float32, [(8, 5), (7,)])
    generator = torch.Generator().manual_seed(3)
    optimizer = thalweg.create(name, params, diagnostics=True, **options)
    before = torch.zeros(0)
    for _ in range(3):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        before = torch.cat([p.detach().flatten().clone() for p in params])
        optimizer.step()
    after = torch.cat([p.detach().flatten() for p in params])
    return optimizer, after - before, before, torch.cat([p.grad.flatten() for p in params if p.grad is not None])


@pytest.mark.parametrize("name", ["sgd", "adamw", "dope"])
def test_numbers_of_a_step(name: str) -> None:
    optimizer, change, weight, g = stepped(name, lr=0.01)
    (told,) = optimizer.diagnostics()
    expected = {
        "lr": 0.01,
        "update_rms": change.square().mean().sqrt(),
        "update_to_weight": change.norm() / weight.norm(),
        "effective_lr": change.norm() / g.norm(),
        "cosine": torch.cosine_similarity(-change, g, dim=0),
        "masked": (change * g >= 0).float().mean(),
        "preconditioner_low": torch.quantile(change.abs() / g.abs() / 0.01, 0.01),
        "preconditioner_high": torch.quantile(change.abs() / g.abs() / 0.01, 0.99),
    }
    assert told == pytest.approx({n: float(x) for n, x in expected.items()}, rel=1e-5)


def test_gradient_descent_is_its_own_measure() -> None:
    optimizer, *_ = stepped("sgd", lr=0.01)
    (told,) = optimizer.diagnostics()
    assert told["effective_lr"] == pytest.approx(0.01)
    assert (told["cosine"], told["masked"]) == pytest.approx((1.0, 0.0))
    assert told["preconditioner_low"] == pytest.approx(1, rel=1e-3) == told["preconditioner_high"]


def test_what_the_mask_holds_still() -> None:
    optimizer, change, _, _ = stepped("adam", lr=0.01, cautious=True)
    (told,) = optimizer.diagnostics()
    assert told["masked"] == pytest.approx(float((change == 0).float().mean()))
    assert 0.1 < told["masked"] < 0.9


def test_only_where_asked_for() -> None:
    a, b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = thalweg.AdamW([{"params": [a]}, {"params": [b], "diagnostics": True}])
    with pytest.raises(RuntimeError, match="diagnostics=True"):
        optimizer.diagnostics()
    a.grad, b.grad = torch.ones(3), torch.ones(3)
    optimizer.step()
    first, second = optimizer.diagnostics()
    assert first == {}
    assert second["update_rms"] == pytest.approx(1e-3, rel=0.02)
    optimizer.param_groups[1]["diagnostics"] = False
    optimizer.step()
    with pytest.raises(RuntimeError, match="diagnostics=True"):
        optimizer.diagnostics()


def test_ascent_is_measured_along_its_way() -> None:
    optimizer, *_ = stepped("sgd", lr=0.01, maximize=True)
    assert optimizer.diagnostics()[0]["cosine"] == pytest.approx(1.0)
