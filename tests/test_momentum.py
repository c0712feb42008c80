"""The textbook forms of momentum are one rule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import thalweg

A = torch.diag(torch.tensor([1.0, 10.0], dtype=torch.float64))
LR, MU = 0.05, 0.9


def slope(x: Tensor) -> Tensor:
    return A @ x + torch.sin(x)  # not linear, so that the point where it is taken matters


def train(steps: int, **kwargs: object) -> list[Tensor]:
    p = torch.tensor([1.0, -2.0]).requires_grad_()
    optimizer = thalweg.create("sgd", [p], **{"lr": LR, "momentum": MU, **kwargs})
    path: list[Tensor] = []

    def closure() -> float:
        p.grad = slope(p.detach())
        return float(p.detach() @ A @ p.detach() / 2)

    for _ in range(steps):
        optimizer.step(closure)
        path.append(p.detach().clone())
    return path


def test_velocity_form() -> None:
    """v ← μv − ηg, p ← p + v."""
    x, v = torch.tensor([1.0, -2.0]), torch.zeros(2)
    for ours in train(50):
        v = MU * v - LR * slope(x)
        x = x + v
        assert torch.allclose(ours, x, rtol=0, atol=1e-12)


def test_average_form_is_the_default_at_a_rescaled_rate() -> None:
    for ours, ema in zip(train(50), train(50, ema=True, lr=LR / (1 - MU)), strict=True):
        assert torch.allclose(ours, ema, rtol=0, atol=1e-12)


def test_lookahead_is_the_published_loop() -> None:
    """v ← μv − ηg(x + μv), x ← x + v (Nesterov's form in Sutskever et al. 2013, eq. 3-4)."""
    x, v = torch.tensor([1.0, -2.0]), torch.zeros(2)
    for ours in train(50, nesterov="lookahead"):
        v = MU * v - LR * slope(x + MU * v)
        x = x + v
        assert torch.allclose(ours, x, rtol=0, atol=1e-12)


def test_lookahead_of_the_average_form() -> None:
    """m ← βm + (1−β)g(p − ηβm), p ← p − ηm."""
    x, m = torch.tensor([1.0, -2.0]), torch.zeros(2)
    for ours in train(50, nesterov="lookahead", ema=True):
        m = MU * m + (1 - MU) * slope(x - LR * MU * m)
        x = x - LR * m
        assert torch.allclose(ours, x, rtol=0, atol=1e-12)


def test_change_of_variables_traces_the_same_iterates() -> None:
    """What ``nesterov=True`` stores is the look-ahead point x + μv of the other form."""
    stored = [torch.tensor([1.0, -2.0]), *train(50, nesterov="lookahead")]
    for before, x, ahead in zip(stored, stored[1:], train(50, nesterov=True), strict=False):
        assert torch.allclose(ahead, x + MU * (x - before), rtol=0, atol=1e-12)


def test_lookahead_needs_a_closure_and_restores_the_point_when_it_fails() -> None:
    p = torch.tensor([1.0, -2.0]).requires_grad_()
    optimizer = thalweg.SGD([p], lr=LR, momentum=MU, nesterov="lookahead")

    def closure() -> float:
        p.grad = torch.ones(2)
        return 0.0

    def failing() -> float:
        raise OSError("no data")

    with pytest.raises(ValueError, match=r"step\(closure\)"):
        optimizer.step()
    optimizer.step(closure)
    kept = p.detach().clone()
    with pytest.raises(OSError, match="no data"):
        optimizer.step(failing)
    assert torch.equal(p, kept)
