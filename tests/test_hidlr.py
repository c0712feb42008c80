"""Hi-DLR: each group's learning rate against the closed form on quadratics, its forms against each other."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from thalweg.control import HiDLR
from thalweg.rules.sgd import SGD

FORMS = ["values", "products", "full"]


def coupled(coupling: float = 0.0) -> tuple[list[Tensor], Callable[[], Tensor], Tensor]:
    """Two groups of two, their loss ½wᵀHw, and H: stiff in the first group, soft in the second."""
    blocks = torch.tensor([[8.0, 1, 0, 0], [1, 6, 0, 0], [0, 0, 0.5, 0.1], [0, 0, 0.1, 0.3]], dtype=torch.float64)
    H = blocks + coupling * (1 - torch.eye(4))
    a, b = torch.ones(2, dtype=torch.float64).requires_grad_(), torch.ones(2, dtype=torch.float64).requires_grad_()
    return [a, b], lambda: (w := torch.cat([a, b])) @ H @ w / 2, H


def step(optimizer: Any, loss_fn: Callable[[], Tensor], times: int = 1) -> None:
    for _ in range(times):
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step(loss_fn)


def groups(params: list[Tensor], *rates: float) -> list[dict[str, Any]]:
    return [{"params": [p], "lr": lr} for p, lr in zip(params, rates, strict=True)]


@pytest.mark.parametrize("form", FORMS)
def test_the_solution_of_a_quadratic(form: Any) -> None:
    params, loss_fn, H = coupled(0.05)
    g = H @ torch.ones(4, dtype=torch.float64)
    D = torch.block_diag(g[:2, None], g[2:, None])  # the directions of gradient descent, by columns
    b, A = D.T @ g, D.T @ H @ D
    expected = torch.linalg.solve(A, b) if form == "full" else b / A.diagonal()
    rates = [0.8 * x for x in expected.tolist()]
    optimizer = HiDLR(SGD(groups(params, *rates)), form=form, average=0.0, every=1)
    step(optimizer, loss_fn)
    (decision,) = optimizer.history
    factors: Any = decision.factors["lr"]
    assert [f * r for f, r in zip(factors, rates, strict=True)] == pytest.approx(expected.tolist())
    torch.testing.assert_close(params[0].detach(), 1 - expected[0] * g[:2])
    for k, reading in enumerate(decision.groups):
        assert reading.lr == pytest.approx(rates[k])
        assert reading.slope == pytest.approx((rates[k] * b[k]).item())
        assert reading.curvature == pytest.approx((rates[k] ** 2 * A[k, k]).item())
        assert reading.ppi == pytest.approx((b[k] ** 2 / (A[k, k] * 2)).item())


@pytest.mark.parametrize("form", FORMS)
def test_learning_rates_find_their_groups(form: Any) -> None:
    """From a learning rate a hundred times too small for the soft group, and averages and clamps at their defaults."""
    params, loss_fn, H = coupled()
    optimizer = HiDLR(SGD(groups(params, 0.01, 0.01)), form=form, every=1)
    step(optimizer, loss_fn, 120)
    factors: Any = optimizer.history[-1].factors["lr"]
    stiff, soft = (f * 0.01 for f in factors)
    for rate, block in ((stiff, H[:2, :2]), (soft, H[2:, 2:])):
        low, high = torch.linalg.eigvalsh(block).tolist()
        assert 0.9 / high < rate < 1.1 / low
    plain, plain_loss, _ = coupled()
    step_plain = SGD(groups(plain, 0.01, 0.01))
    for _ in range(120):
        step_plain.zero_grad()
        plain_loss().backward()
        step_plain.step()
    assert loss_fn().item() < 1e-3 * plain_loss().item()


def test_clamps_and_keeps() -> None:
    params, loss_fn, _ = coupled()
    optimizer = HiDLR(SGD(groups(params, 1e-4, 1e4)), average=0.0)
    step(optimizer, loss_fn)
    assert optimizer.history[0].factors["lr"] == (2.0, 0.5)
    w = torch.ones(2, dtype=torch.float64).requires_grad_()
    optimizer = HiDLR(SGD([w], 0.1), average=0.0)
    step(optimizer, lambda: -(w @ w))
    assert optimizer.history[0].factors["lr"] == (1.0,)


def test_cost_and_cadence() -> None:
    params, loss_fn, _ = coupled()
    optimizer = HiDLR(SGD(groups(params, 0.01, 0.01)))
    step(optimizer, loss_fn, 50)
    measured = [d.step for d in optimizer.history if d.groups]
    assert measured == [0, 20, 40]
    assert [d.cost for d in optimizer.history if d.groups] == [5 / 3] * 3
    with pytest.raises(TypeError, match="HiDLR: step 60 measures"):
        for _ in range(11):
            optimizer.step()


def test_resumes_bit_for_bit_and_a_schedule_multiplies() -> None:
    def start() -> tuple[list[Tensor], Callable[[], Tensor], HiDLR, Any]:
        params, loss_fn, _ = coupled()
        optimizer = HiDLR(SGD(groups(params, 0.01, 0.02), momentum=0.9), every=3)
        return params, loss_fn, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)

    def run(loss_fn: Callable[[], Tensor], optimizer: HiDLR, schedule: Any, times: int) -> None:
        for _ in range(times):
            step(optimizer, loss_fn)
            schedule.step()

    params, loss_fn, optimizer, schedule = start()
    run(loss_fn, optimizer, schedule, 11)
    saved = io.BytesIO()
    torch.save([optimizer.state_dict(), schedule.state_dict(), params], saved)
    run(loss_fn, optimizer, schedule, 11)
    others, other_loss, resumed, schedule = start()
    saved.seek(0)
    state, of_schedule, values = torch.load(saved)
    resumed.load_state_dict(state)
    schedule.load_state_dict(of_schedule)
    for p, value in zip(others, values, strict=True):
        p.data.copy_(value)
    run(other_loss, resumed, schedule, 11)
    assert all(map(torch.equal, params, others))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.99**22)
    last: Any = optimizer.history[-1]
    assert last.used == pytest.approx(
        max(f * lr * 0.99**21 for f, lr in zip(last.factors["lr"], (0.01, 0.02), strict=True))
    )


def test_a_measurement_that_is_not_finite() -> None:
    params, loss_fn, _ = coupled()
    optimizer = HiDLR(SGD(groups(params, 0.01, 0.01)))
    twin, twin_loss, _ = coupled()
    loss_fn().backward()
    with pytest.warns(UserWarning, match="HiDLR: measuring before step 0: .* stay"):
        optimizer.step(lambda: loss_fn() * math.nan)
    plain = SGD(groups(twin, 0.01, 0.01))
    twin_loss().backward()
    plain.step()
    assert all(map(torch.equal, params, twin))
    assert copy.deepcopy(optimizer).steps == 1


@pytest.mark.parametrize(("keyword", "value"), [("form", "diagonal"), ("every", 0), ("average", 1.0), ("factor", 0.5)])
def test_bad_arguments(keyword: str, value: Any) -> None:
    params, _, _ = coupled()
    with pytest.raises(ValueError, match=f"HiDLR: {keyword}={value!r}"):
        HiDLR(SGD(params), **{keyword: value})
