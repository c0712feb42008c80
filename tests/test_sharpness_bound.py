"""The sharpness bound: λ̂ against dense matrices, its remembering against a naive loop, alarms, and where it has no hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import thalweg
from thalweg.control import DCAO, Decision, Edge
from thalweg.control.edge import EdgePolicy
from thalweg.control.probe import NOTHING, Probe
from thalweg.control.sharpness import ADVANCE, PAUSE, SharpnessBound

some = settings(max_examples=40, deadline=None)
x = torch.randn(24, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
y = torch.randn(24, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def symmetric(n: int, seed: int) -> Tensor:
    A = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return A + A.T


def probe_of(H: Tensor, at: Tensor, rates: tuple[float, float] = (1.0, 1.0)) -> Probe:
    """Of ½wᵀHw, the parameters in two halves with a learning rate each."""
    half = len(at) // 2
    parts = [at[:half].clone().requires_grad_(), at[half:].clone().requires_grad_()]
    named = list(zip("ab", parts, strict=True))
    return Probe(named, [0, 1], rates, lambda: (w := torch.cat(parts)) @ H @ w / 2, lambda factors: [])


def scaled(H: Tensor, g: Tensor, rates: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """L^½HL^½ and L^½g."""
    half = len(g) // 2
    root = (torch.tensor([rates[0]] * half + [rates[1]] * (len(g) - half), dtype=torch.float64) / max(rates)).sqrt()
    return root[:, None] * H * root, root * g


@some
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 8),
    k=st.integers(1, 8),
    rates=st.tuples(st.floats(0.1, 2.0), st.floats(0.1, 2.0)),
)
def test_ritz_value_and_residual_are_those_of_the_dense_krylov_space(
    seed: int, n: int, k: int, rates: tuple[float, float]
) -> None:
    H = symmetric(n, seed)
    at = torch.randn(n, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    value, residual = probe_of(H, at, rates).sharpness(k, doubted=-math.inf)
    A, start = scaled(H, H @ at, rates)
    columns = [start / start.norm()]
    for _ in range(min(k, n) - 1):
        columns.append((v := A @ columns[-1]) / v.norm())
    Q = torch.linalg.qr(torch.stack(columns, 1))[0]
    ritz, vectors = torch.linalg.eigh(Q.T @ A @ Q)
    v = Q @ vectors[:, -1]
    scale = A.norm().item()
    assert value == pytest.approx(ritz[-1].item(), abs=1e-6 * scale)
    assert residual == pytest.approx((A @ v - ritz[-1] * v).norm().item(), abs=1e-5 * scale)
    eigenvalues = torch.linalg.eigvalsh(A)
    nearest = eigenvalues[(eigenvalues - value).abs().argmin()].item()
    assert abs(nearest - value) <= residual + 1e-9 * scale
    assert value <= eigenvalues[-1].item() + 1e-9 * scale


@some
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4), rates=st.sampled_from([(1.0, 1.0), (3.0, 0.5)]))
def test_as_many_products_as_the_gradient_has_eigenvectors_are_exact(
    seed: int, k: int, rates: tuple[float, float]
) -> None:
    """And those that it has no part of are not seen."""
    A, root = symmetric(8, seed), scaled(torch.eye(8, dtype=torch.float64), torch.ones(8), rates)[1]
    values, vectors = torch.linalg.eigh(A)
    chosen = torch.randperm(8, generator=torch.Generator().manual_seed(seed))[:k]
    gradient = vectors[:, chosen].sum(1)
    H = A / (root[:, None] * root)
    at = torch.linalg.solve(H, gradient / root)
    value, residual = probe_of(H, at, rates).sharpness(k, doubted=-math.inf)
    assert value == pytest.approx(values[chosen].max().item(), abs=1e-5)
    assert residual == pytest.approx(0.0, abs=1e-4)


# What is remembered.


def network(*extra: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), *extra, nn.Linear(6, 3))


def run(model: nn.Module, optimizer: Any, steps: int, clip: float = math.inf) -> list[float]:
    """Train on batches of four; returns the gradients' norms."""
    g, norms = torch.Generator().manual_seed(3), list[float]()
    for _ in range(steps):
        rows = torch.randint(24, (4,), generator=g)
        loss_fn = lambda rows=rows: F.mse_loss(model(x[rows]), y[rows])  # noqa: E731
        optimizer.zero_grad()
        loss_fn().backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        norms.append(math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None)))
        optimizer.step(loss_fn)
    return norms


def naive(history: Sequence[Decision], norms: list[float], edge: Edge) -> tuple[list[float], list[int]]:
    """The bound of each step, and at which steps λ̂ was to be measured, from λ̂, the norms and the costs alone."""
    bounds, measured, cap, due, spent = list[float](), list[int](), math.inf, 0, 0.0
    averages = [norms[0]]  # before each step
    for t, (decision, norm) in enumerate(zip(history, norms, strict=True)):
        averages.append(0.9 * averages[t] + 0.1 * norm)
        if t == due:
            measured.append(t)
            spent += decision.cost
            cap = min(edge.margin * edge.threshold / decision.sharpness, 1.5 * cap)
            due = t + edge.cap_every * (2 if decision.asked < cap / 2 else 1)
        else:
            growth = averages[t + 1] / averages[measured[-1] + 1]
            pressing = growth > 1.5 and decision.asked * growth > 0.7 * cap
            if pressing and t - measured[-1] >= PAUSE and spent < edge.budget * t + ADVANCE:
                due = min(due, t + 1)
        bounds.append(cap * min(1.0, averages[t] / norm))
    return bounds, measured


@pytest.mark.parametrize("lr", [0.02, 0.2, 5.0])
@pytest.mark.parametrize("edge", [Edge(cap_every=10), Edge(cap_every=40, margin=1.0, threshold=3.0), Edge(budget=0.01)])
def test_bound_and_measurements_are_those_of_a_naive_loop(lr: float, edge: Edge) -> None:
    model = network()
    optimizer = DCAO(model.parameters(), lr, policy=edge)
    norms = run(model, optimizer, 130)
    bounds, measured = naive(optimizer.history, norms, edge)
    assert [d.bounds["sharpness"] for d in optimizer.history] == pytest.approx(bounds, rel=1e-9)
    assert [d.step for d in optimizer.history if d.cost] == measured
    assert min(bounds) < 0.8 * max(bounds)
    assert not any(d.note for d in optimizer.history)


def test_a_sharpness_that_fell_by_more_than_half_is_looked_at_again() -> None:
    """The gradient has almost nothing of the largest eigenvector: two products miss it, five do not."""
    H = torch.diag(torch.tensor([100.0, 1.0, 0.8, 0.6, 0.4], dtype=torch.float64))
    at = torch.tensor([1e-8, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    hasty, patient = (sum(probe_of(H, at).sharpness(2, doubted)) for doubted in (-math.inf, 50.0))
    assert hasty < 2
    assert patient >= 50
    probe = probe_of(H, at)
    probe.sharpness(2, doubted=1e9)
    assert probe.cost.products == 5


# Alarms.


class Told:
    """A policy that is told λ̂ and the norms, one a step."""

    def __init__(self, lr: float, sharpness: Callable[[int], float], norm: Callable[[int], float], steps: int) -> None:
        self.edge = Edge()
        policy = EdgePolicy(self.edge, SharpnessBound(self.edge))
        self.decisions = list[Decision]()
        for t in range(steps):
            probe: Any = SimpleNamespace(
                sharpness=lambda products, doubted, t=t: (sharpness(t), 0.0),
                cost=SimpleNamespace(gradient_equivalents=5.0),
                draws=False,
                agreement=1.0,
                along_gradient=lambda: NOTHING,
            )
            due = probe if t >= policy.next_probe else None
            self.decisions.append(policy.decide(t, lr, due, lambda t=t: norm(t)))

    @property
    def measured(self) -> list[int]:
        return [d.step for d in self.decisions if d.cost]


CAP = 0.7 * 2 / 10  # at a sharpness of 10


@pytest.mark.parametrize(("part", "expected"), [(50.0, 21), (0.5, 21), (0.15, 25), (0.06, None)])
def test_grown_gradients_bring_a_measurement_forward(part: float, expected: int | None) -> None:
    """From 1 to 10 at step 20: the average passes 1.5 at once, .7/.15 at the fifth such step, and .7/.06 never."""
    told = Told(part * CAP, lambda t: 10.0, lambda t: 10.0 if t >= 20 else 1.0, 79)
    assert (told.measured[1] if len(told.measured) > 1 else None) == expected
    assert told.decisions[19].bounds["sharpness"] == pytest.approx(CAP)
    assert told.decisions[20].bounds["sharpness"] == pytest.approx(CAP / 10)
    assert told.decisions[21].bounds["sharpness"] == pytest.approx(CAP * 0.19)
    calm = Told(50 * CAP, lambda t: 10.0, lambda t: 1.0, 79)
    assert calm.measured == [0]


def test_alarms_are_paid_from_the_budget() -> None:
    """Gradients that grow by a third a step call for one at every fourth: ADVANCE buys six, and then the budget counts."""
    told = Told(50.0, lambda t: 10.0 + t, lambda t: 1.3**t, 400)
    gaps = [b - a for a, b in zip(told.measured, told.measured[1:], strict=False)]
    assert gaps[1:5] == [PAUSE + 1] * 4  # the first average takes two steps more to grow by half
    regular = 400 / told.edge.cap_every
    for t in range(400):
        spent = sum(d.cost for d in told.decisions[: t + 1])
        assert spent <= told.edge.budget * t + ADVANCE + 5.0 * (1 + regular)
    assert sum(gaps[-3:]) / 3 == pytest.approx(5.0 / told.edge.budget, abs=2)


def test_a_loss_that_sharpens_is_measured_anew_within_steps() -> None:
    """A noisy quadratic, a hundred times itself from step 30 on."""
    H = torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=torch.float64))
    w = torch.ones(4, dtype=torch.float64, requires_grad=True)
    optimizer = DCAO([w], 100.0, 0.0, products=4, cold=1.0)
    g = torch.Generator().manual_seed(0)
    for t in range(45):
        b = torch.randn(4, generator=g, dtype=torch.float64)
        factor = 100.0 if t >= 30 else 1.0
        loss_fn = lambda b=b, factor=factor: factor * (w @ H @ w / 2 + b @ w)  # noqa: E731
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step(loss_fn)
    measured = [(d.step, d.sharpness) for d in optimizer.history if d.cost]
    assert measured[:2] == [(0, pytest.approx(4.0)), (31, pytest.approx(400.0))]
    assert optimizer.history[30].used < 2 / 400 * 10
    assert optimizer.history[31].used <= 0.7 * 2 / 400
    assert w.norm() < 10


# Foreign losses; see also test_dcao.py.


@pytest.mark.parametrize("clip", [math.inf, 0.01])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_clipping_and_dropout_make_no_other_loss(clip: float, rate: float) -> None:
    model = network(nn.Dropout(rate))
    optimizer = DCAO(model.parameters(), 0.5, cap_every=3)
    norms = run(model, optimizer, 40, clip)
    assert max(norms) <= clip * 1.001
    assert sum(d.cost > 0 for d in optimizer.history) > 10
    assert not any(d.note for d in optimizer.history)


@pytest.mark.parametrize("of_frozen", [1e-3, 1e3])
def test_gradients_of_parameters_that_do_not_move_are_not_compared(of_frozen: float) -> None:
    model = network()
    loss_fn = lambda: F.mse_loss(model(x), y)  # noqa: E731
    base = thalweg.SGD([{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}], lr=0.1)
    optimizer = DCAO(base=base)
    loss_fn().backward()
    for p in model[0].parameters():
        p.grad.mul_(of_frozen)  # pyright: ignore[reportOptionalMemberAccess]
    optimizer.step(loss_fn)
    assert optimizer.history[0].note == ""


# Where it has no hold.


def steps_on(w: Tensor, losses: list[Callable[[], Tensor]], **options: Any) -> list[Decision]:
    optimizer = DCAO([w], options.pop("lr"), 0.0, **options)
    for loss_fn in losses:
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step(loss_fn)
    return list(optimizer.history)


def test_a_stationary_point_is_measured_from_a_random_start() -> None:
    """The first gradients are 0: those after them are not large beside that."""
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    H = torch.diag(torch.tensor([5.0, 2.0, 1.0], dtype=torch.float64))
    still: Callable[[], Tensor] = lambda: w @ H @ w / 2  # noqa: E731
    moving: Callable[[], Tensor] = lambda: w @ H @ w / 2 + w.sum()  # noqa: E731
    history = steps_on(w, [still] * 5 + [moving] * 20, lr=10.0, products=3)
    assert history[0].sharpness == pytest.approx(5.0)
    assert all(d.bounds["sharpness"] == pytest.approx(0.7 * 2 / 5) for d in history)
    assert [d.used for d in history] == pytest.approx([0.05 * 0.28 * 1.05**t for t in range(25)])


@pytest.mark.parametrize("still", [0, 3])
def test_a_linear_loss_has_no_bound(still: int) -> None:
    """Nor where it is constant at first."""
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    losses: list[Callable[[], Tensor]] = [lambda: 0 * w.sum()] * still + [lambda: w.sum()] * 80
    history = steps_on(w, losses, lr=2.0)
    assert {d.bounds["sharpness"] for d in history} == {math.inf}
    assert [d.used for d in history] == pytest.approx([min(2.0 * 0.05 * 1.05**t, 2.0) for t in range(len(history))])


def test_where_curvature_turns_negative_the_cap_rises_by_half_a_measurement() -> None:
    told = Told(1e6, lambda t: -10.0 if t else 10.0, lambda t: 1.0, 400)
    assert told.measured == [0, 80, 160, 240, 320]
    assert [told.decisions[t].bounds["sharpness"] for t in told.measured] == pytest.approx(
        [CAP * 1.5**i for i in range(5)]
    )
