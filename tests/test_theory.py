"""The propositions of docs/theory.md, one or more tests each, which fail if the constants of their statement are changed."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import lambertw
from sklearn.datasets import load_digits
from torch import Tensor, nn

import thalweg
from thalweg.control import CDAT, DCAO, Edge, HiDLR
from thalweg.control.edge import EdgePolicy
from thalweg.control.probe import Along, Probe
from thalweg.control.sharpness import SharpnessBound
from thalweg.curvature import batch_sharpness

PAGE = Path(__file__).parent.parent / "docs" / "theory.md"
some = settings(max_examples=20, deadline=None)
many = settings(max_examples=200, deadline=None)
Losses = Callable[[], Tensor]


@pytest.fixture(autouse=True)
def _advised() -> Any:
    """The advice that a law will freeze is not repeated, where it is tested that it does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "DCAO: lr=.*resting point", UserWarning)
        yield


def train(optimizer: Any, loss_fn: Losses, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step(loss_fn) if hasattr(optimizer, "history") else optimizer.step()


def point(*values: float) -> Tensor:
    return torch.tensor(values).requires_grad_()


def network(activation: type[nn.Module] = nn.Tanh, seed: int = 0) -> tuple[nn.Module, Losses]:
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    x, y = torch.randn(24, 4, generator=g), torch.randn(24, 3, generator=g)
    model = nn.Sequential(nn.Linear(4, 6), activation(), nn.Linear(6, 6), activation(), nn.Linear(6, 3))
    return model, lambda: (model(x) - y).square().sum(1).mean() / 2


def probe_of(model: nn.Module, loss_fn: Losses) -> Probe:
    named = list(model.named_parameters())
    return Probe(named, [0] * len(named), [1.0] * len(named), loss_fn, lambda factors: [])


def test_the_page_names_every_test_and_every_test_it_names_is_here() -> None:
    page = PAGE.read_text(encoding="utf-8")
    tests = {name for name in globals() if name.startswith("test_")}
    named = set(re.findall(r"`(test_\w+)`", page))
    assert named == tests - {"test_the_page_names_every_test_and_every_test_it_names_is_here"}


# 1 and 2: quadratics.

RULES: dict[str, tuple[str, dict[str, Any], Callable[[float], float]]] = {
    "gradient descent": ("sgd", {}, lambda b: 2.0),
    "Polyak": ("sgd", {"momentum": None}, lambda b: 2 + 2 * b),
    "Nesterov": ("sgd", {"momentum": None, "nesterov": True}, lambda b: (2 + 2 * b) / (1 + 2 * b)),
    "RMSprop": ("rmsprop", {"eps": 1.0}, lambda b: 2.0),
    "Adam": ("adam", {"betas": None, "eps": 1.0}, lambda b: (2 + 2 * b) / (1 - b)),
    "NAdam": (
        "nadam",
        {"betas": None, "eps": 1.0, "momentum_decay": 1e6},
        lambda b: (2 + 2 * b) / ((1 - b) * (1 + 2 * b)),
    ),
}


def of_beta(options: dict[str, Any], b: float) -> dict[str, Any]:
    return options | {n: b if n == "momentum" else (b, 0.9) for n, v in options.items() if v is None}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("b", [0.5, 0.9])
def test_steps_shrink_below_the_threshold_and_grow_above(rule: str, b: float) -> None:
    """From 1e-100 on second moments are nothing beside ε = 1: P is ε, frozen.  300 steps forget the bias corrections."""
    name, options, bound = RULES[rule]
    for part, shrinks in (0.99, True), (1.01, False):
        w = point(1e-100, 1e-100)
        curvature = part * bound(b) / 0.3 * torch.tensor([1.0, 0.1])
        optimizer = thalweg.create(name, [w], lr=0.3, **of_beta(options, b))
        loss = lambda w=w, curvature=curvature: (curvature * w * w).sum() / 2  # noqa: E731
        train(optimizer, loss, 300)
        before = w.detach().abs()
        train(optimizer, loss, 400)
        change = w.detach().abs() / before
        assert change[0].item() < 1e-2 if shrinks else change[0].item() > 1e2
        assert change[1].item() < 1e-2


def companion(rule: str, b: float, a: float) -> np.ndarray:
    """The step of (w, v) on a curvature λ with a = ηλ, in units in which η = 1."""
    momentum = {"gradient descent": 0.0, "RMSprop": 0.0}.get(rule, b)
    weight = 1 - b if rule in ("Adam", "NAdam") else 1.0
    v = np.array([weight * a, momentum])
    u = np.array([weight * a, 0.0]) + momentum * v if rule in ("Nesterov", "NAdam") else v
    return np.stack([np.array([1.0, 0.0]) - u, v])


@pytest.mark.parametrize("rule", RULES)
@many
@given(b=st.floats(0.0, 0.999), part=st.floats(0.001, 3.0).filter(lambda x: abs(x - 1) > 1e-3))
def test_the_spectral_radius_passes_1_at_the_threshold(rule: str, b: float, part: float) -> None:
    radius = np.abs(np.linalg.eigvals(companion(rule, b, part * RULES[rule][2](b)))).max()
    assert (radius < 1) == (part < 1)


# 3 to 7: the exponential law.


def rests(lr: float, alpha: float, c: float = 2.0) -> tuple[float, float]:
    """The learning rates at rest, the stable one first; NaN where there is none."""
    roots = [-alpha * c / lambertw(-alpha * c / lr, branch) for branch in (0, -1)]
    return cast(tuple[float, float], tuple(z.real if abs(z.imag) < 1e-12 else math.nan for z in roots))


def sharpened(law: Callable[[float], float], rho: float, c: float, steps: int = 40_000, k: float = 0.01) -> float:
    """Sharpness after ρ ← ρ + k(c/η(ρ) − ρ); infinite where it runs away."""
    for _ in range(steps):
        eta = law(rho)
        if eta < 1e-12:
            return math.inf
        rho += k * (c / eta - rho)
    return rho


@some
@given(alpha=st.floats(1e-3, 10.0), above=st.floats(1.001, 50.0), c=st.sampled_from([2.0, 3.8]))
def test_rests_are_the_two_branches_of_lamberts_function(alpha: float, above: float, c: float) -> None:
    lr = above * c * math.e * alpha
    stable, unstable = rests(lr, alpha, c)
    for eta in stable, unstable:
        assert eta == pytest.approx(lr * math.exp(-alpha * c / eta), rel=1e-9)
    assert stable > alpha * c > unstable
    assert lr / math.e < stable < lr
    assert all(map(math.isnan, rests(0.999 * c * math.e * alpha, alpha, c)))


@pytest.mark.parametrize("c", [2.0, 3.8])
def test_sharpening_rests_above_ec_alpha_and_runs_away_below(c: float) -> None:
    alpha = 0.05
    for above in 1.01, 1.1, 2.0:
        lr = above * c * math.e * alpha
        stable, unstable = rests(lr, alpha, c)
        law = lambda rho, lr=lr: lr * math.exp(-alpha * rho)  # noqa: E731
        for start in 0.0, 0.999 * c / unstable:
            assert law(sharpened(law, start, c)) == pytest.approx(stable, rel=1e-3)
        assert sharpened(law, 1.001 * c / unstable, c) == math.inf
    lr = 0.99 * c * math.e * alpha
    assert sharpened(lambda rho: lr * math.exp(-alpha * rho), 0.0, c) == math.inf


def test_digits_rest_where_the_formula_says_or_leave_the_edge() -> None:
    """Full batch, tanh, squared error: α = .1 asks for η₀ ≥ .544."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:200]), nn.functional.one_hot(torch.tensor(labels[:200]), 10)
    x = (x - x.mean()) / x.std()

    def run(lr: float) -> tuple[list[float], list[float]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
        optimizer = DCAO(model.parameters(), lr, 0.0, policy="exponential", alpha=0.1, every=20, k=2, tol=0.05)
        train(optimizer, lambda: (model(x) - y).square().sum(1).mean() / 2, 501)
        seen = list(optimizer.history)[::100]
        return [d.used for d in seen], [d.ratio for d in seen]

    used, ratio = run(0.7)
    assert used == sorted(used)
    assert used[-1] == pytest.approx(rests(0.7, 0.1)[0], rel=0.06)
    assert ratio[-1] == pytest.approx(1.0, abs=0.08)
    used, ratio = run(0.5)
    assert used[1:] == sorted(used[1:], reverse=True)
    assert used[-1] < 0.5 / math.e * 0.7
    assert ratio[-1] < 0.87
    assert ratio[1:] == sorted(ratio[1:], reverse=True)


def test_below_the_edge_a_unit_of_time_takes_exp_alpha_rho_steps() -> None:
    """On w⁴/4 gradient flow is w₀/√(1 + 2τw₀²), and ρ = 3w²."""
    w0, time, lr, alpha = 1.5, 2.0, 0.02, 0.4
    flow = lambda tau: w0 / math.sqrt(1 + 2 * tau * w0**2)  # noqa: E731
    steps = quad(lambda tau: math.exp(alpha * 3 * flow(tau) ** 2) / lr, 0, time)[0]
    w = point(w0)
    optimizer = DCAO([w], lr, 0.0, policy="exponential", alpha=alpha, every=1, tol=1e-6)
    train(optimizer, lambda: w.pow(4).sum() / 4, round(steps))
    assert w.item() == pytest.approx(flow(time), rel=4e-3)
    assert steps > 2 * time / lr


def used(scale: float, steps: int, **options: Any) -> list[float]:
    """The learning rates of a run on scale times a loss, times scale; lr is per unit of that."""
    model, loss_fn = network()
    optimizer = DCAO(model.parameters(), options.pop("lr") / scale, **options)
    train(optimizer, lambda: scale * loss_fn(), steps)
    return [scale * d.used for d in optimizer.history]


def test_the_exponential_law_sees_the_scale_of_the_loss() -> None:
    law: dict[str, Any] = dict(lr=1.0, steps=12, momentum=0.0, policy="exponential", every=4, k=2, tol=1e-7)
    first, scaled = (used(s, alpha=0.2, **law)[0] for s in (1.0, 4.0))
    assert scaled == pytest.approx(first**4, rel=1e-6)
    assert used(4.0, alpha=0.05, **law) == pytest.approx(used(1.0, alpha=0.2, **law), rel=1e-6)
    assert used(4.0, alpha=0.2, normalized=True, **law) == pytest.approx(
        used(1.0, alpha=0.2, normalized=True, **law), rel=1e-6
    )


@pytest.mark.parametrize("q", [0.4, 0.8, 0.99, 1.01, 3.0])
def test_the_normalized_law_rests_from_the_edge_on(q: float) -> None:
    for alpha in 0.05, 0.1, 0.3, 0.6, 0.97, 1.03, 2.0, 3.0:
        law = lambda rho, alpha=alpha: q * math.exp(-alpha * (rho - 1))  # noqa: E731  ρ in units of ρ_ref, η of c/ρ_ref
        margin = q - alpha * math.exp(1 - alpha)
        if abs(margin) < 1e-3:
            continue
        expected = q >= 1 or (alpha <= 1 and margin >= 0)
        assert (sharpened(law, 1.0, 1.0) < math.inf) == expected, alpha


# 8 and 9: momentum and weight decay.


def test_a_change_of_momentum_changes_the_effective_step() -> None:
    """Along w₁ the gradient is 1; the curvatures 4, 1 and 0 make γ_H = 4."""
    for beta in 0.0, 0.1:
        w = point(0.0, 0.0, 0.0)
        loss = lambda w=w: w[0] + (4 * w[1] ** 2 + w[2] ** 2) / 2  # noqa: E731
        optimizer = DCAO([w], 0.01, 0.9, policy="exponential", alpha=0.0, beta=beta, k=3)
        train(optimizer, loss, 400)
        before = w[0].item()
        train(optimizer, loss, 1)
        mu = 0.9 * math.exp(-beta * 4)
        assert before - w[0].item() == pytest.approx(0.01 / (1 - mu), rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.05, 0.2])
def test_decay_of_two_layers_takes_their_imbalance_down(decay: float) -> None:
    """½(w₁w₂ − 1)²: along the flow D = w₁² − w₂² falls as exp(−2λt), and where w₁w₂ = y sharpness is √(D² + 4y²)."""
    w = point(3.0, 0.2)
    lr, time = 2e-3, 3.0
    loss = lambda: (w[0] * w[1] - 1) ** 2 / 2  # noqa: E731
    imbalance = (w[0] ** 2 - w[1] ** 2).item()
    train(torch.optim.SGD([w], lr, weight_decay=decay), loss, round(time / lr))
    left = (w[0] ** 2 - w[1] ** 2).item()
    assert left == pytest.approx(imbalance * math.exp(-2 * decay * time), rel=5e-3)
    with torch.no_grad():
        w[1] = 1 / w[0]
    left = (w[0] ** 2 - w[1] ** 2).item()
    H = cast(Tensor, torch.func.hessian(lambda v: (v[0] * v[1] - 1) ** 2 / 2)(w.detach()))
    assert torch.linalg.eigvalsh(H)[-1].item() == pytest.approx(math.sqrt(left**2 + 4))


# 10 to 16: the edge policy.


def along(model: nn.Module, loss_fn: Losses, u: list[Tensor]) -> Callable[[float], tuple[float, float, float]]:
    """φ, φ′ and φ″ of φ(h) = L(w + hu)."""
    params = list(model.parameters())
    start = [p.detach().clone() for p in params]

    def at(h: float) -> tuple[float, float, float]:
        with torch.no_grad():
            for p, s, x in zip(params, start, u, strict=True):
                p.copy_(s + h * x)
        loss = loss_fn()
        g = torch.autograd.grad(loss, params, create_graph=True)
        slope = sum((a * b).sum() for a, b in zip(g, u, strict=True))
        second = torch.autograd.grad(cast(Tensor, slope), params)
        curvature = sum((a * b).sum().item() for a, b in zip(second, u, strict=True))
        with torch.no_grad():
            for p, s in zip(params, start, strict=True):
                p.copy_(s)
        return loss.item(), cast(Tensor, slope).item(), curvature

    return at


def directions(model: nn.Module, loss_fn: Losses) -> dict[str, list[Tensor]]:
    params = list(model.parameters())
    g = torch.autograd.grad(loss_fn(), params)
    return {
        "gradient": [-x for x in g],
        "sign": [-x.sign() for x in g],
        "mixed": [-x.abs().sqrt() * x.sign() for x in g],
    }


@pytest.mark.parametrize("direction", ["gradient", "sign", "mixed"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.9])
def test_the_loss_falls_by_what_directional_smoothness_says(direction: str, seed: int, sigma: float) -> None:
    model, loss_fn = network(seed=seed)
    phi = along(model, loss_fn, directions(model, loss_fn)[direction])
    here, slope, d = phi(0.0)
    n = -slope
    while True:  # a d that bounds φ″ from 0 to σn/d
        seen = max(phi(h)[2] for h in np.linspace(0, sigma * n / d, 30))
        if seen <= d:
            break
        d = 1.02 * seen
    for part in 1.0, 0.5, 0.1:
        eta = part * sigma * n / d
        assert phi(eta)[0] <= here - (1 - sigma / 2) * eta * n


@some
@given(sigma=st.floats(0.1, 1.9), part=st.floats(0.5, 1.5), d=st.floats(0.1, 10.0))
def test_a_third_derivative_bounds_the_step_of_one_point(sigma: float, part: float, d: float) -> None:
    """The cubic with n = 1 for which η²T is a part of 6(1 − σ/2)n at η = σn/d."""
    eta = sigma / d
    T = part * 6 * (1 - sigma / 2) / eta**2
    change = -eta + eta**2 * d / 2 + eta**3 * T / 6
    assert change == pytest.approx(-(1 - part) * (1 - sigma / 2) * eta)


@some
@given(sigma=st.floats(0.1, 3.0), seed=st.integers(0, 1000))
def test_on_a_quadratic_the_fall_is_exact(sigma: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    A, w, u = torch.randn(5, 5, generator=g), torch.randn(5, generator=g), torch.randn(5, generator=g)
    H = A @ A.T
    loss = lambda w: (w @ H @ w / 2).item()  # noqa: E731
    n, d = -(u @ H @ w).item(), (u @ H @ u).item()
    fall = loss(w) - loss(w + sigma * n / d * u)
    assert fall == pytest.approx(sigma * (1 - sigma / 2) * n**2 / d, abs=1e-9 * loss(w))


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("direction", ["gradient", "sign", "mixed"])
def test_a_step_of_the_probes_length_needs_no_smoothness(activation: Any, direction: str) -> None:
    model, loss_fn = network(activation)
    u = directions(model, loss_fn)[direction]
    phi, probe = along(model, loss_fn, u), probe_of(model, loss_fn)
    fell = 0
    for h in np.logspace(-3, 2, 21):
        seen: Along = probe.by_values(u, float(h))
        there = phi(float(h))[0]
        assert there == pytest.approx(seen.loss - h * seen.slope + h**2 * seen.curvature / 2, rel=1e-9)
        for sigma in 0.5, 1.0, 1.9:
            if seen.curvature > 0 and h <= sigma * seen.slope / seen.curvature:
                fell += 1
                assert there <= (seen.loss - (1 - sigma / 2) * h * seen.slope) * (1 + 1e-12)
    assert fell > 10


def test_three_values_average_curvature_under_a_triangle() -> None:
    model, loss_fn = network()
    u = directions(model, loss_fn)["gradient"]
    phi, probe = along(model, loss_fn, u), probe_of(model, loss_fn)
    for h in 0.3, 1.0, 3.0:
        seen = probe.by_values(u, h)
        mean = quad(lambda s, h=h: (1 - abs(s)) * phi(s * h)[2], -1, 1, points=[0.0], limit=200)[0]
        slope = quad(lambda s, h=h: -phi(s * h)[1] / 2, -1, 1, limit=200)[0]
        assert seen.curvature == pytest.approx(mean, rel=1e-6)
        assert seen.slope == pytest.approx(slope, rel=1e-6)
    step = 0.02  # φ⁗ by differences of φ″
    fourth = (phi(step)[2] + phi(-step)[2] - 2 * phi(0.0)[2]) / step**2
    error = [probe.by_values(u, h).curvature - phi(0.0)[2] for h in (0.02, 0.04)]
    assert error[0] == pytest.approx(0.02**2 / 12 * fourth, rel=0.02)
    assert error[1] / error[0] == pytest.approx(4.0, rel=0.02)


@some
@given(h=st.floats(0.1, 2.0), place=st.floats(-0.95, 0.95), jump=st.floats(0.1, 5.0))
def test_kinks_count_by_their_jump_and_their_place(h: float, place: float, jump: float) -> None:
    class Kink(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self) -> Tensor:  # slope −1, curvature 3, and where h·place is passed a jump of the slope
            return (1.5 * self.w**2 - self.w + jump * (self.w - h * place).relu()).sum()

    model = Kink()
    probe = probe_of(model, model)
    seen, exact = probe.by_values([torch.ones(1)], h), probe.by_product([torch.ones(1)])
    assert seen.curvature == pytest.approx(3 + jump * (1 - abs(place)) / h)
    assert exact.curvature == pytest.approx(3.0)


A = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)


def cosh(w: Tensor) -> float:
    """Σcosh(aᵢwᵢ) − 3: ‖∇²‖ ≤ a² + a‖∇‖ with a = max aᵢ, its minimum 0."""
    return (torch.cosh(A * w) - 1).sum().item()


def largest_step(w: Tensor, sigma: float, most: float = math.inf) -> float:
    """The largest η ≤ most with η max φ″ ≤ σn; φ″ is convex here, so that its maximum is at an end."""
    g = A * torch.sinh(A * w)
    n = (g @ g).item()

    def bears(eta: float) -> bool:
        ends = [((g * A) ** 2 * torch.cosh(A * (w - h * g))).sum().item() for h in (0.0, eta)]
        return eta * max(ends) <= sigma * n

    low, high = 0.0, 1.0
    while bears(high):
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if bears(middle) else (low, middle)
    return min(low, most)


@some
@given(
    start=st.lists(st.floats(-8.0, 8.0), min_size=3, max_size=3), sigma=st.floats(0.2, 1.9), most=st.floats(0.05, 10.0)
)
def test_under_l0_l1_smoothness_steps_are_long_and_few(start: list[float], sigma: float, most: float) -> None:
    w, L0, L1, eps = torch.tensor(start), 4.0, 2.0, 0.1
    W = lambertw(sigma).real
    bound = cosh(w) / ((1 - sigma / 2) * eps**2) * max(1 / most, (L0 + L1 * eps) / W)
    steps = 0
    while (norm := (A * torch.sinh(A * w)).norm().item()) > eps:
        g = A * torch.sinh(A * w)
        d = ((g * A) ** 2 * torch.cosh(A * w)).sum().item()
        assert norm**2 / d >= 1 / (L0 + L1 * norm)
        free = largest_step(w, sigma)
        assert free >= W / (L0 + L1 * norm)
        eta = min(free, most)
        after = w - eta * g
        assert cosh(after) <= cosh(w) - (1 - sigma / 2) * eta * norm**2 + 1e-12 * cosh(w)
        w, steps = after, steps + 1
        assert steps <= bound


def test_one_learning_rate_for_all_is_as_small_as_the_steepest_place() -> None:
    """At 2/L₀, stable at the minimum, gradient descent from afar diverges; the policy's steps do not."""
    w = torch.tensor([4.0, 0.0, 0.0])
    plain = w - 2 / 4.0 * A * torch.sinh(A * w)
    assert cosh(plain) > cosh(w)
    assert cosh(w - largest_step(w, 1.0) * A * torch.sinh(A * w)) < cosh(w) / 2


@pytest.mark.parametrize("bound", ["sharpness", "direction"])
def test_the_learning_rate_is_the_lowest_bound_so_far_risen_by_the_slew(bound: Any) -> None:
    model, loss_fn = network()
    optimizer = DCAO(model.parameters(), 50.0, bound=bound, cap_every=10)
    train(optimizer, loss_fn, 120)
    edge = cast(Any, optimizer.settings)
    bounds = [min(b for name, b in d.bounds.items() if name != "slew") for d in optimizer.history]
    bounds[0] *= edge.cold
    for t, decision in enumerate(optimizer.history):
        lowest = min(edge.slew ** (t - s) * b for s, b in enumerate(bounds[: t + 1]))
        assert decision.used == pytest.approx(min(lowest, 50.0), rel=1e-9)


def test_a_cold_start_takes_a_logarithm_of_steps() -> None:
    """All curvatures 2: no bound ever moves."""
    w = point(1.0, -2.0, 0.5)
    optimizer = DCAO([w], 1e3, 0.0, cold=0.07, slew=1.1)
    train(optimizer, lambda: w @ w, 40)
    active = [d.active for d in optimizer.history]
    steps = math.ceil(math.log(1 / 0.07) / math.log(1.1))
    assert steps == 28
    assert next(i for i, name in enumerate(active) if name != "slew") == steps
    assert optimizer.history[-1].used == pytest.approx(optimizer.history[steps].used, rel=1e-6)


@pytest.mark.parametrize("policy", [Edge(cap_every=10), Edge(bound="direction"), CDAT(eps=0.0)], ids=repr)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_edge_does_not_see_the_scale_of_the_loss(policy: Edge | CDAT, momentum: float) -> None:
    """A power of two scales floating point numbers exactly, and steps are then the same to the bit."""
    runs = [used(s, 60, lr=5.0, momentum=momentum, policy=policy) for s in (1.0, 1024.0)]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 20


def test_the_direction_bound_follows_the_unit_and_the_parameters_and_the_cap_does_not() -> None:
    g = torch.Generator().manual_seed(0)
    H = torch.diag(torch.tensor([5.0, 2.0, 1.0]))
    B, start, u = (
        torch.eye(3) + torch.randn(3, 3, generator=g) / 2,
        torch.randn(3, generator=g),
        torch.randn(3, generator=g),
    )
    found: list[tuple[float, float]] = []
    for C, scale in (torch.eye(3), 1.0), (torch.eye(3), 10.0), (B, 1.0):
        v = torch.linalg.solve(C, start).requires_grad_()
        probe = Probe([("v", v)], [0], [1.0], lambda v=v, C=C: (C @ v) @ H @ (C @ v) / 2, lambda factors: [])
        direction = scale * torch.linalg.solve(C, u * -torch.sign(u @ H @ start))
        seen = probe.by_product([direction])
        found.append((scale * seen.lowest, probe.spectrum(1, "largest", 1e-10, seed=0).eigenvalues[0].item()))
    (first, sharp), (unit, same), (other, changed) = found
    assert unit == pytest.approx(first)
    assert other == pytest.approx(first)
    assert same == pytest.approx(sharp)
    assert changed == pytest.approx(torch.linalg.eigvalsh(B.T @ H @ B)[-1].item())
    assert abs(changed / sharp - 1) > 0.3


@pytest.mark.parametrize("m", [0.8, 0.99, 1.01, 1.2])
def test_below_the_edge_sharpening_has_no_rest(m: float) -> None:
    """ρ grows by 1 + k(1/m − 1) a step."""
    k, rho, grown = 0.01, 5.0, 5.0
    for _ in range(200):
        rho, grown = rho + k * (2 / (m * 2 / rho) - rho), grown * (1 + k * (1 / m - 1))
    assert rho == pytest.approx(grown)
    assert (sharpened(lambda rho: m * 2 / rho, 5.0, 2.0, 200_000) < 5.0) == (m > 1)


# 17 to 19: mini-batches.

CURVATURES = torch.logspace(-1, 1, 12, dtype=torch.float64)
FAR = torch.linspace(1.0, 2.0, 12, dtype=torch.float64)


def noisy(batch: int, draws: int) -> tuple[Tensor, Tensor, Tensor]:
    """The full gradient, Σ's diagonal, and gradients of batches."""
    g, variance = CURVATURES * FAR, torch.linspace(2000.0, 200.0, 12)
    noise = torch.randn(draws, 12, generator=torch.Generator().manual_seed(batch)) * (variance / batch).sqrt()
    return g, variance, g + noise


@pytest.mark.parametrize("batch", [4, 16, 64])
def test_a_batch_overrates_the_step_by_its_noise(batch: int) -> None:
    g, variance, batches = noisy(batch, 200_000)
    n, d = batches.square().sum(1), (batches.square() * CURVATURES).sum(1)
    r = (variance.sum() / (batch * g @ g)).item()
    assert n.mean().item() == pytest.approx((1 + r) * (g @ g).item(), rel=0.01)
    # The best step for the full loss, by its values at three learning rates: a parabola in expectation.
    full = lambda lr: (CURVATURES * (FAR - lr * batches).square()).sum(1).mean().item() / 2  # noqa: E731
    h = 0.1
    best = (full(-h) - full(h)) / (full(h) + full(-h) - 2 * full(0.0)) * h / 2
    assert (n.mean() / d.mean()).item() / best == pytest.approx(1 + r, rel=0.02)


@pytest.mark.parametrize("batch", [4, 16, 64])
@pytest.mark.parametrize("part", [0.9, 1.1])
def test_the_full_loss_falls_while_sigma_is_below_two_over_one_plus_r(batch: int, part: float) -> None:
    g, variance, batches = noisy(batch, 400_000)
    n, d = batches.square().sum(1).mean(), (batches.square() * CURVATURES).sum(1).mean()
    r = (variance.sum() / (batch * g @ g)).item()
    sigma = part * 2 / (1 + r)
    change = (CURVATURES * ((FAR - sigma * n / d * batches).square() - FAR.square())).sum(1) / 2
    s = sigma * (1 + r)
    expected = (-s * (1 - s / 2) * (g @ g) ** 2 / d).item()
    assert abs(change.mean().item() - expected) < 4 * (change.std() / len(change) ** 0.5).item() + 0.01 * abs(expected)
    assert (change.mean().item() < 0) == (part < 1)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.9])
def test_sgd_halts_where_noise_and_gradient_balance(sigma: float) -> None:
    """One curvature h, so that n/d is 1/h of every batch: E‖∇f‖² settles at σ/(2 − σ) tr Σ/B."""
    g = torch.Generator().manual_seed(0)
    gradient, total, variance = torch.zeros(4000, 3), 0.0, 5.0
    for t in range(400):
        gradient = gradient - sigma * (gradient + variance**0.5 * torch.randn(4000, 3, generator=g))
        total += gradient.square().sum(1).mean().item() if t >= 200 else 0.0
    assert total / 200 == pytest.approx(sigma / (2 - sigma) * 3 * variance, rel=0.01)


def test_one_batchs_quotient_is_biased_and_the_quotient_of_averages_is_not() -> None:
    _, _, batches = noisy(64, 400_000)
    n, d = batches.square().sum(1), (batches.square() * CURVATURES).sum(1)
    ratio = (n.mean() / d.mean()).item()
    cov = torch.cov(torch.stack([n, d]))
    second_order = ratio * (1 + cov[1, 1] / d.mean() ** 2 - cov[0, 1] / (n.mean() * d.mean())).item()
    one = (n / d).mean().item()
    assert abs(one / second_order - 1) < 0.3 * abs(one / ratio - 1)
    assert one > 1.003 * ratio


def test_the_direction_bound_is_sigma_over_batch_sharpness() -> None:
    model, loss_fn = network()
    for sigma in 0.5, 2.0:
        optimizer = DCAO(model.parameters(), 1e9, 0.0, policy="cdat", sigma=sigma)
        found = batch_sharpness(lambda _: loss_fn(), [0], model).mean
        train(optimizer, loss_fn, 1)
        assert optimizer.history[0].used * found == pytest.approx(sigma)


# 20 to 22: the sharpness bound.


def ritz_pair(H: Tensor, g: Tensor, k: int) -> tuple[float, float]:
    w = torch.zeros(len(g), dtype=torch.float64, requires_grad=True)
    return Probe([("w", w)], [0], [1.0], lambda: w @ H @ w / 2 + g @ w, lambda factors: []).sharpness(k, -math.inf)


@many
@given(seed=st.integers(0, 10**6), n=st.integers(2, 10), k=st.integers(1, 4))
def test_an_eigenvalue_is_within_the_residual_of_the_ritz_value(seed: int, n: int, k: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    B, g = torch.randn(n, n, generator=draw, dtype=torch.float64), torch.randn(n, generator=draw, dtype=torch.float64)
    H = B + B.T
    values = torch.linalg.eigvalsh(H)
    theta, r = ritz_pair(H, g, k)
    slack = 1e-9 * values.abs().max().item()
    nearest = values[(values - theta).abs().argmin()].item()
    assert abs(nearest - theta) <= r + slack
    assert theta + r >= nearest - slack
    assert (g @ H @ g / (g @ g)).item() - slack <= theta <= values[-1].item() + slack


def test_what_the_gradient_has_no_part_of_is_not_seen() -> None:
    H = torch.diag(torch.tensor([100.0, 4.0, 1.0, 1.0], dtype=torch.float64))
    for first, expected in (0.0, 4.0), (1e-3, 100.0):
        theta, r = ritz_pair(H, torch.tensor([first, 1.0, 1.0, 0.0], dtype=torch.float64), 3)
        assert theta == pytest.approx(expected)
        assert r == pytest.approx(0.0, abs=1e-6)


positive = st.floats(1e-3, 1e3)


def bound_at(cap: float, average: float, now: float) -> float:
    policy = EdgePolicy(Edge(), SharpnessBound(Edge()))
    policy.norm = average
    return cap * policy.steadiness(now)


@many
@given(L0=st.floats(0.0, 1e3), L1=positive, then=positive, average=positive, now=positive, kappa=st.floats(0.1, 4.0))
def test_the_bound_falls_with_the_gradient_as_l0_l1_smoothness_asks(
    L0: float, L1: float, then: float, average: float, now: float, kappa: float
) -> None:
    cap = kappa / (L0 + L1 * then)
    for mean, most in (then, kappa), (average, kappa * max(1.0, average / then)):
        eta = bound_at(cap, mean, now)
        assert eta * (L0 + L1 * now) <= most * (1 + 1e-9)
    # The largest factor that holds for all L0 and L1: it is attained, where one of them is 0.
    attained = [bound_at(kappa / f(then), then, now) * f(now) for f in (lambda G: L1 * G, lambda G: L1)]
    assert max(attained) == pytest.approx(kappa)


@some
@given(
    at=st.lists(st.floats(0.01, 3.0), min_size=3, max_size=3),
    far=st.lists(st.floats(-6.0, 6.0), min_size=3, max_size=3),
)
def test_steps_that_the_bound_allows_stay_below_the_threshold_far_away(at: list[float], far: list[float]) -> None:
    """On Σcosh(aᵢwᵢ), with λ̂ = L₀ + L₁‖g‖ where it was measured."""
    norms = [(A * torch.sinh(A * torch.tensor(w, dtype=torch.float64))).norm().item() for w in (at, far)]
    eta = bound_at(2 / (4.0 + 2.0 * norms[0]), norms[0], norms[1])
    sharpness = (A**2 * torch.cosh(A * torch.tensor(far, dtype=torch.float64))).max().item()
    assert eta * sharpness <= 2 * (1 + 1e-12)


def stationary(rule: str, h: Tensor, lr: float, noise: float, **options: Any) -> tuple[float, float, float]:
    """Of ½Σhᵢwᵢ² with gradients hw + ξ, once it rests: E n of the full loss, E n of the batch's own, and E d."""
    draw = torch.Generator().manual_seed(0)
    w = torch.zeros(4000, len(h), requires_grad=True)  # 4,000 runs at once
    optimizer = thalweg.create(rule, [w], lr=lr, **options)
    sums = torch.zeros(3, dtype=torch.float64)
    for t in range(500):
        full = h * w.detach()
        w.grad = full + noise**0.5 * torch.randn(w.shape, generator=draw)
        before, g = w.detach().clone(), w.grad.clone()
        optimizer.step()
        u = (w.detach() - before) / lr
        if t >= 250:
            sums += torch.stack([-(full * u).sum(), -(g * u).sum(), (h * u * u).sum()]).double()
    return cast(tuple[float, float, float], tuple(sums.tolist()))


@pytest.mark.parametrize(
    ("rule", "lr", "options"),
    [
        ("sgd", 0.3, {}),
        ("sgd", 0.1, {"momentum": 0.9}),
        ("sgd", 0.6, {"momentum": 0.9}),
        ("sgd", 0.1, {"momentum": 0.9, "nesterov": True}),
        ("adam", 0.05, {"betas": (0.9, 0.9)}),
    ],
)
def test_at_rest_the_full_losss_quotient_is_half_the_learning_rate(
    rule: str, lr: float, options: dict[str, Any]
) -> None:
    n, _, d = stationary(rule, torch.tensor([3.0, 1.0, 0.5]), lr, 2.0, **options)
    assert n / d == pytest.approx(lr / 2, rel=0.02)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("part", [0.05, 0.5])
def test_the_batchs_own_quotient_at_rest(beta: float, part: float) -> None:
    h = 2.0
    lr = part * 2 * (1 + beta) / h
    _, n, d = stationary("sgd", torch.tensor([h, h]), lr, 5.0, momentum=beta)
    assert n / d == pytest.approx((1 - beta**2) / h + beta * lr / 2, rel=0.02)


@pytest.mark.parametrize("sigma", [0.85, 1.5])
def test_a_greedy_learning_rate_rests_far_below_what_momentum_bears(sigma: float) -> None:
    """η ← σ E n/E d, the expectations over 4,000 runs, from a third of the threshold."""
    h, beta, draw = 2.0, 0.9, torch.Generator().manual_seed(0)
    w, v = torch.zeros(4000), torch.zeros(4000)
    lr, n, d = 2 * (1 + beta) / h / 3, 0.0, 0.0
    for t in range(600):
        g = h * w + torch.randn(4000, generator=draw)
        v = beta * v + g
        w = w - lr * v
        n, d = 0.98 * n + (g * v).mean().item(), 0.98 * d + h * v.square().mean().item()
        lr = sigma * n / d if t > 100 else lr
    assert lr == pytest.approx(sigma * (1 - beta**2) / (1 - sigma * beta / 2) / h, rel=0.03)


# 23 and 24: Hi-DLR.


def three(coupling: float) -> tuple[list[Tensor], Losses]:
    """Three groups of one parameter, unit curvatures, each pair coupled, all slopes 1."""
    H = coupling * torch.ones(3, 3) + (1 - coupling) * torch.eye(3)
    w = torch.linalg.solve(H, torch.ones(3))
    params = [w[i : i + 1].clone().requires_grad_() for i in range(3)]
    return params, lambda: (x := torch.cat(params)) @ H @ x / 2


@pytest.mark.parametrize("coupling", [0.2, 0.45, 0.55, 0.9])
def test_one_group_at_a_time_may_climb_where_all_together_descend(coupling: float) -> None:
    """With K groups of correlation r the diagonal solution climbs from r > 1/(K − 1) on."""
    for form in "values", "products", "full":
        params, loss_fn = three(coupling)
        start = loss_fn().item()
        groups = [{"params": [p], "lr": 1.0} for p in params]
        optimizer = HiDLR(thalweg.SGD(groups), form=cast(Any, form), average=0.0, factor=1e3)
        train(optimizer, loss_fn, 1)
        change = loss_fn().item() - start
        if form == "full":
            assert change == pytest.approx(-1.5 / (1 + 2 * coupling))
            assert loss_fn().item() == pytest.approx(0.0, abs=1e-12)
        else:
            assert change == pytest.approx(-3 + 1.5 * (1 + 2 * coupling))
            assert (change > 0) == (coupling > 0.5)


@many
@given(K=st.integers(1, 6), rank=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_the_diagonal_solution_falls_where_correlations_are_below_two(K: int, rank: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    F = torch.randn(K, rank, generator=g)
    A, b = F @ F.T, torch.randn(K, generator=g)
    d = A.diagonal()
    R = A / (d.sqrt() * d.sqrt()[:, None])
    values, vectors = torch.linalg.eigh(R)
    most = values[-1].item()
    model = lambda eta, b: (-b @ eta + eta @ A @ eta / 2).item()  # noqa: E731
    gain = (b * b / d).sum().item()
    assert model(b / d, b) <= (most / 2 - 1) * gain + 1e-9 * gain
    worst = d.sqrt() * vectors[:, -1]
    assert model(worst / d, worst) == pytest.approx(most / 2 - 1, abs=1e-9)
    assert most <= K + 1e-9
    for theta in 1 / K, 1.99 / K:
        assert model(theta * b / d, b) < 0


def test_one_group_is_the_quotient_along_the_step() -> None:
    model, loss_fn = network()
    u = directions(model, loss_fn)["gradient"]
    for form in "products", "full":
        seen = probe_of(model, loss_fn).by_product(u)
        optimizer = HiDLR(list(model.parameters()), 0.1, 0.0, form=cast(Any, form), average=0.0, factor=1e3)
        start = [p.detach().clone() for p in model.parameters()]
        train(optimizer, loss_fn, 1)
        assert optimizer.history[0].used == pytest.approx(seen.lowest)
        with torch.no_grad():
            for p, s in zip(model.parameters(), start, strict=True):
                p.copy_(s)
