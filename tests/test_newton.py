"""Newton's method and L-BFGS by a loss function: closed forms, scipy, promises about damping, restoring and resuming."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor, nn

import thalweg
from thalweg.curvature import Cost, CountsCost
from thalweg.rules.lbfgs import LBFGS
from thalweg.rules.newton import NewtonCG, newton_direction, next_damping


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def positive_definite(n: int, condition: float, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    q = torch.linalg.qr(torch.randn(n, n)).Q
    return q @ torch.diag(torch.logspace(0, math.log10(condition), n)) @ q.T


def rosenbrock(p: Tensor) -> Tensor:
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def classifier(seed: int = 0) -> tuple[nn.Sequential, Callable[[], Tensor]]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    x, y = torch.randn(20, 4), torch.randint(3, (20,))
    return model, lambda: F.cross_entropy(model(x), y)


# Newton's steps


@given(st.integers(1, 12), st.floats(1, 1e4), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_one_step_to_the_minimum_of_a_quadratic(n: int, condition: float, seed: int) -> None:
    A, b = positive_definite(n, condition, seed), torch.randn(n)
    p = torch.randn(n).requires_grad_()
    optimizer: Any = thalweg.create("newton_cg", [p])
    optimizer.step(lambda: p @ A @ p / 2 - b @ p)
    torch.testing.assert_close(p.detach(), torch.linalg.solve(A, b), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("products", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_step_to_the_solution_of_least_squares(products: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 5, dtype=dtype), torch.randn(30, 2, dtype=dtype)
    model = nn.Linear(5, 2, dtype=dtype)
    optimizer = NewtonCG(model.parameters(), products=products)
    start = F.mse_loss(model(x), y).detach()
    returned = optimizer.step(lambda: F.mse_loss(model(x), y))
    solution = torch.linalg.lstsq(torch.cat([x, torch.ones(30, 1, dtype=dtype)], 1), y).solution
    found = torch.cat([model.weight, model.bias[:, None]], 1).detach().T
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found, solution, rtol=tolerance, atol=tolerance)
    assert returned.equal(start)
    assert optimizer.used.gradients == optimizer.used.values == 1
    assert 6 <= optimizer.used.products <= 14


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_the_direction_is_that_of_the_dense_damped_system(damping: float) -> None:
    A, g = positive_definite(9, 1e3), torch.randn(9)
    d, Ad = newton_direction(lambda v: A @ v, g, damping, 1e-14, 40)
    torch.testing.assert_close(d, -torch.linalg.solve(A + damping * torch.eye(9), g))
    torch.testing.assert_close(Ad, A @ d)


def test_conjugate_gradients_stop_at_their_tolerance_and_their_number() -> None:
    A, g = positive_definite(30, 1e4), torch.randn(30)
    calls: list[Tensor] = []

    def product(v: Tensor) -> Tensor:
        calls.append(v)
        return A @ v

    d, Ad = newton_direction(product, g, 0.0, 0.3, 100)
    assert (Ad + g).norm() <= 0.3 * g.norm()
    assert len(calls) < 30
    torch.testing.assert_close(Ad, A @ d)
    calls.clear()
    newton_direction(product, g, 0.0, 0.0, 3)
    assert len(calls) == 3


def test_negative_curvature_ends_conjugate_gradients() -> None:
    A, g = torch.diag(torch.tensor([1.0, 2.0, -4.0])), torch.tensor([1.0, 1.0, 1e-3])
    d, Ad = newton_direction(lambda v: A @ v, g, 0.0, 0.0, 100)
    assert g @ d < 0  # what was found before, downhill
    torch.testing.assert_close(Ad, A @ d)
    assert d @ Ad > 0
    uphill, product = newton_direction(lambda v: -v, g, 0.0, 0.0, 100)
    assert uphill.equal(-g)
    assert product.equal(g)
    damped, _ = newton_direction(lambda v: A @ v, g, 5.0, 1e-14, 100)
    torch.testing.assert_close(damped, -g / (A.diagonal() + 5))


def test_a_saddle_is_left() -> None:
    p = vector(1.0, 1e-3)
    optimizer = NewtonCG([p])
    for _ in range(40):
        optimizer.step(lambda: p[0] ** 2 - p[1] ** 2 + p[1] ** 4 / 4)
    torch.testing.assert_close(p.detach(), torch.tensor([0.0, 2**0.5]), atol=1e-7, rtol=0)


def test_rosenbrock_ends_where_scipys_newton_does() -> None:
    p = vector(-1.2, 1.0)

    def at(x: np.ndarray) -> Tensor:
        return rosenbrock(torch.from_numpy(x))

    def gradient(x: np.ndarray) -> np.ndarray:
        return torch.func.grad(rosenbrock)(torch.from_numpy(x)).numpy()

    def product(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (torch.func.hessian(rosenbrock)(torch.from_numpy(x)) @ torch.from_numpy(v)).numpy()

    expected = minimize(at, [-1.2, 1.0], method="Newton-CG", jac=gradient, hessp=product, options={"xtol": 1e-10})
    optimizer = NewtonCG([p])
    used = Cost()
    for _ in range(30):
        optimizer.step(lambda: rosenbrock(p))
        used.products += optimizer.used.products
    torch.testing.assert_close(p.detach(), torch.from_numpy(expected.x), atol=1e-7, rtol=0)
    torch.testing.assert_close(p.detach(), torch.ones(2), atol=1e-12, rtol=0)
    assert used.products <= 75  # two or three a step


def test_logistic_regression_converges_quadratically_to_scipys_solution() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(80, 5), torch.rand(80).round()
    w = torch.zeros(5, requires_grad=True)

    def loss(w: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(x @ w, y) + 0.01 * w @ w

    expected = minimize(
        lambda v: loss(torch.from_numpy(v)).item(),
        np.zeros(5),
        jac=lambda v: torch.func.grad(loss)(torch.from_numpy(v)).numpy(),
        options={"gtol": 1e-12},
    )
    optimizer, errors = NewtonCG([w]), [math.inf]
    for _ in range(5):
        optimizer.step(lambda: loss(w))
        errors.append((w.detach() - torch.from_numpy(expected.x)).norm().item())
    assert errors[-1] < 1e-7  # scipy's own
    w.data.zero_()
    solution = torch.from_numpy(expected.x).clone().requires_grad_()
    NewtonCG([solution]).step(lambda: loss(solution))  # polished
    errors.clear()
    for _ in range(4):
        errors.append((w - solution).norm().item())
        optimizer.step(lambda: loss(w))
    assert all(later <= max(earlier**2, 1e-13) for earlier, later in pairwise(errors))
    assert errors[-1] < 1e-10


# Damping and the line search


def test_damping_follows_the_ratio() -> None:
    assert next_damping(3.0, 0.8, 1.0) == 2.0
    assert next_damping(3.0, 0.5, 1.0) == 3.0
    assert next_damping(3.0, 0.1, 1.0) == 4.5
    assert next_damping(3.0, math.nan, 1.0) == 4.5
    assert next_damping(0.0, 0.1, 2.0) == 0.2


def test_damping_grows_where_the_model_is_bad_and_shrinks_where_it_is_good() -> None:
    p = vector(3.0)  # Newton's step on √(1 + x²) goes to −x³
    optimizer = NewtonCG([p])
    loss = optimizer.step(lambda: (1 + p**2).sqrt().sum())
    assert optimizer.param_groups[0]["damping"] == pytest.approx((1 + 9) ** -1.5 / 10)  # a tenth of f''
    assert optimizer.used.values > 1
    assert (1 + p**2).sqrt().item() <= loss
    for _ in range(30):
        optimizer.step(lambda: (1 + p**2).sqrt().sum())
    assert p.abs().item() < 1e-9
    q = vector(3.0)
    optimizer = NewtonCG([q], damping=1.0)
    optimizer.step(lambda: q.square().sum())
    assert optimizer.param_groups[0]["damping"] == pytest.approx(2 / 3)
    assert q.item() == pytest.approx(3 - 6 / 3)  # (2 + λ)d = −2q


@given(st.integers(0, 1000), st.sampled_from(["hessian", "gauss_newton"]), st.sampled_from([0.3, 1.0, 3.0]))
@settings(max_examples=25, deadline=None)
def test_the_loss_never_rises(seed: int, products: Any, lr: float) -> None:
    model, loss_fn = classifier(seed)
    optimizer = NewtonCG(model.parameters(), lr=lr, products=products, max_iter=10)
    losses = [optimizer.step(loss_fn).item() for _ in range(8)] + [loss_fn().item()]
    assert all(later <= earlier for earlier, later in pairwise(losses))
    assert losses[-1] < losses[0]


def test_a_step_that_only_rises_is_taken_back_bit_for_bit() -> None:
    p = vector(0.1, 0.7, 1 / 3)
    before, values = p.detach().clone(), iter(range(1, 100))
    optimizer = NewtonCG([p], max_halvings=4)
    optimizer.step(lambda: p.square().sum() + next(values))
    assert p.equal(before)
    assert optimizer.used == Cost(values=5, gradients=1, products=1)
    assert optimizer.param_groups[0]["damping"] > 0


def test_an_error_on_the_way_takes_the_step_back() -> None:
    p = vector(0.1, 0.7)
    before, calls = p.detach().clone(), iter(range(100))

    def loss_fn() -> Tensor:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return p.square().sum()

    with pytest.raises(KeyboardInterrupt):
        NewtonCG([p]).step(loss_fn)
    assert p.equal(before)


def test_a_loss_that_is_not_finite_further_on_is_no_decrease() -> None:
    p = vector(0.5)
    optimizer = NewtonCG([p], lr=3.0)
    losses = [optimizer.step(lambda: -(1 - p**2).log().sum()).item() for _ in range(30)]  # NaN outside (−1, 1)
    assert losses == sorted(losses, reverse=True)
    assert p.abs().item() < 1e-6


def test_lr_is_the_part_of_the_step() -> None:
    p, q = vector(4.0), vector(4.0)
    NewtonCG([p], lr=0.25).step(lambda: p.square().sum())
    NewtonCG([q], lr=torch.tensor(0.25)).step(lambda: q.square().sum())
    assert p.item() == q.item() == 3.0
    optimizer = NewtonCG([p])
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for expected in (0.0, 2.0):
        with torch.no_grad():
            p.fill_(4)
        optimizer.step(lambda: p.square().sum())
        schedule.step()
        assert p.item() == expected
    optimizer = NewtonCG([q := vector(4.0)], lr=0.0)
    optimizer.step(lambda: q.square().sum())
    assert q.item() == 4


def test_large_systems_are_solved_as_exactly_as_their_gradient_is_small() -> None:
    used: dict[float | None, int] = {}
    for tolerance in (1e-12, None):
        model, loss_fn = classifier()
        optimizer = NewtonCG(
            model.parameters(), products="gauss_newton", damping=0.1, max_iter=50, tolerance=tolerance
        )  # 51 parameters
        used[tolerance] = 0
        for _ in range(30):
            optimizer.step(loss_fn)
            used[tolerance] += optimizer.used.products
        assert loss_fn().item() < 1e-3
    assert used[None] < used[1e-12] / 2


# What surrounds the step


def test_gradients_and_frozen_and_unused_parameters_are_left_alone() -> None:
    p, frozen, unused = vector(2.0), vector(3.0).requires_grad_(False), vector(5.0)
    p.grad = torch.tensor([7.0])
    optimizer = NewtonCG([p, frozen, unused])
    optimizer.step(lambda: ((p - frozen) ** 2).sum())
    assert (p.item(), frozen.item(), unused.item()) == (3, 3, 5)
    assert p.grad.item() == 7
    assert unused.grad is None
    optimizer.step(lambda: ((p - frozen) ** 2).sum())  # at the minimum there is nothing to do
    assert optimizer.used == Cost(gradients=1)


def test_the_same_random_numbers_at_every_evaluation_of_a_step() -> None:
    p, drawn = vector(1.0), list[float]()

    def loss_fn() -> Tensor:
        drawn.append(torch.rand(()).item())
        return (p**4).sum()

    optimizer = NewtonCG([p])
    optimizer.step(loss_fn)
    first = set(drawn)
    optimizer.step(loss_fn)
    assert len(drawn) == 4
    assert len(first) == 1
    assert len(set(drawn)) == 2


def test_a_loss_that_differentiates_itself() -> None:
    p, x = vector(1.0, 1.0), torch.linspace(0, 1, 9, requires_grad=True)

    def residual() -> Tensor:  # u' = 2x for u = p₀x² + p₁x
        u = p[0] * x**2 + p[1] * x
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return (slope - 4 * x).square().mean()

    NewtonCG([p]).step(residual)
    torch.testing.assert_close(p.detach(), torch.tensor([2.0, 0.0]))


def test_groups_are_one_system() -> None:
    A = positive_definite(4, 100.0)
    p, q, whole = vector(1.0, 2.0), vector(3.0, 4.0), vector(1.0, 2.0, 3.0, 4.0)
    NewtonCG([{"params": [p]}, {"params": [q]}]).step(lambda: torch.cat([p, q]) @ A @ torch.cat([p, q]))
    NewtonCG([whole]).step(lambda: whole @ A @ whole)
    torch.testing.assert_close(torch.cat([p, q]), whole)
    with pytest.raises(ValueError, match=r"damping=1\.0 differs from the first group's 0\.0"):
        NewtonCG([{"params": [p]}, {"params": [q], "damping": 1.0}])
    optimizer = NewtonCG([{"params": [p]}, {"params": [q]}])
    optimizer.param_groups[1]["lr"] = 0.5
    with pytest.raises(ValueError, match=r"lr=0\.5 differs"):
        optimizer.step(lambda: p.sum())


def test_a_resumed_run_is_bit_exact() -> None:
    def make() -> tuple[nn.Sequential, Callable[[], Tensor], NewtonCG]:
        model, loss_fn = classifier(3)
        return model, loss_fn, NewtonCG(model.parameters(), max_iter=6)

    model, loss_fn, optimizer = make()
    for _ in range(4):
        optimizer.step(loss_fn)
    assert optimizer.param_groups[0]["damping"] > 0
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file := BytesIO())
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again, again_fn, resumed = make()
    again.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    for _ in range(4):
        assert optimizer.step(loss_fn).equal(resumed.step(again_fn))
    assert all(a.equal(b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert optimizer.state_dict() == resumed.state_dict()


def torch_closure(p: Tensor) -> Tensor:
    p.grad = None
    loss = p.square().sum()
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("loss_fn", "error", "message"),
    [
        (lambda p: None, TypeError, "returned NoneType"),
        (lambda p: p * 2, ValueError, r"returned shape \(2,\)"),
        (torch_closure, ValueError, "wrote gradients"),
        (lambda p: p.sum() * math.nan, FloatingPointError, "the loss is nan; nothing was changed"),
        (lambda p: (p - 1).abs().sqrt().sum(), FloatingPointError, "gradient of parameter 0 of group 0 is not finite"),
    ],
)
def test_a_bad_loss_changes_nothing(loss_fn: Any, error: type[Exception], message: str) -> None:
    p = vector(1.0, 2.0)
    optimizer = NewtonCG([p])
    state = optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.step(lambda: loss_fn(p))
    assert p.equal(torch.tensor([1.0, 2.0]))
    assert optimizer.state_dict() == state


def test_bad_arguments() -> None:
    p = vector(1.0)
    for name, value in dict(lr=-1.0, damping=-1.0, max_iter=0, tolerance=-1.0, max_halvings=-1).items():
        with pytest.raises(ValueError, match=f"NewtonCG: {name}={value}"):
            NewtonCG([p], **{name: value})
    with pytest.raises(ValueError, match="choose one of 'hessian', 'gauss_newton'"):
        NewtonCG([p], products="fisher")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"call step\(loss_fn\)"):
        NewtonCG([p]).step()
    half = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    with pytest.raises(TypeError, match=r"'w' is torch\.bfloat16"):
        NewtonCG([("w", half)]).step(lambda: half.sum())
    with pytest.raises(ValueError, match="params is empty"):
        NewtonCG([torch.ones(2)]).step(lambda: half.sum())


# L-BFGS by the same interface


@pytest.mark.parametrize("line_search_fn", [None, "strong_wolfe"])
def test_lbfgs_takes_torchs_steps_by_loss_function_or_closure(line_search_fn: str | None) -> None:
    kwargs: dict[str, Any] = {"lr": 1e-3 if line_search_fn is None else 1, "line_search_fn": line_search_fn}
    p, q, r = (vector(-1.2, 1.0) for _ in range(3))
    calls = 0

    def closure(at: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = rosenbrock(at)
        loss.backward()
        return loss

    torchs = torch.optim.LBFGS([r], **kwargs)
    by_loss, by_closure = LBFGS([p], **kwargs), LBFGS([q], **kwargs)
    for _ in range(3):
        expected = torchs.step(lambda: closure(r, torchs))
        calls = 0
        assert by_closure.step(lambda: closure(q, by_closure)) == expected
        assert by_closure.used == Cost(gradients=calls)
        assert by_loss.step(lambda: rosenbrock(p)) == expected
        assert by_loss.used == Cost(gradients=calls)
        assert p.equal(r)
        assert q.equal(r)


def test_lbfgs_leaves_other_leaves_alone_and_says_what_it_needs() -> None:
    p, other, frozen = vector(1.0), vector(2.0), vector(3.0).requires_grad_(False)
    optimizer = LBFGS([p, frozen])
    optimizer.step(lambda: ((p - other - frozen) ** 2).sum())
    assert p.item() == pytest.approx(5)
    assert other.grad is None
    with pytest.raises(TypeError, match=r"wrote no gradient and returned 1\.0"):
        optimizer.step(lambda: 1.0)


@pytest.mark.parametrize("name", ["lbfgs", "newton_cg"])
def test_hooks_run_once_and_the_cost_is_told(name: str) -> None:
    p, ran = vector(1.0), list[str]()
    torch.optim.LBFGS([vector(1.0)])  # torch wraps the step of a class when it first makes an instance
    optimizer: Any = thalweg.create(name, [p])
    optimizer.register_step_pre_hook(lambda *_: ran.append("before"))
    optimizer.register_step_post_hook(lambda *_: ran.append("after"))
    loss = optimizer.step(lambda: p.square().sum())
    assert ran == ["before", "after"]
    assert loss.item() == 1
    assert p.item() == pytest.approx(0, abs=1e-6)
    assert optimizer.used.gradient_equivalents > 1
    assert isinstance(optimizer, CountsCost)
    assert not isinstance(thalweg.create("sgd", [p]), CountsCost)
