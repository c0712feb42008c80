"""DCAO: the laws against hand computation, what the edge policy forgives, and that nothing but the lr is touched."""

from __future__ import annotations

import copy
import io
import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import thalweg
from thalweg.control import CDAT, DCAO, Decision, Edge, Exponential
from thalweg.control.probe import Probe
from thalweg.control.rehearsal import rehearsed
from thalweg.registry import OPTIMIZERS

SPECTRUM = torch.tensor([4.0, 2.5, -3.0, 1.0, 0.5, 0.2], dtype=torch.float64)
x = torch.randn(24, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
y = torch.randn(24, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def quadratic(spectrum: Tensor, at: float = 1.0) -> tuple[Tensor, Callable[[], Tensor], Tensor]:
    """w, ½wᵀHw and H of this spectrum, in a rotated basis."""
    n = len(spectrum)
    Q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(0)))[0]
    w = (Q @ torch.full((n,), at)).requires_grad_()
    H = Q @ spectrum.diag() @ Q.T
    return w, lambda: w @ H @ w / 2, H


def network(*extra: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), *extra, nn.Linear(6, 3))


def loss_of(model: nn.Module) -> Callable[[], Tensor]:
    return lambda: F.mse_loss(model(x), y)


def batch_losses(model: nn.Module, steps: int) -> list[Callable[[], Tensor]]:
    g = torch.Generator().manual_seed(3)
    rows = [torch.randint(24, (8,), generator=g) for _ in range(steps)]
    return [lambda i=i: F.mse_loss(model(x[i]), y[i]) for i in rows]


def train(optimizer: Any, losses: list[Callable[[], Tensor]], after: Callable[[], Any] = lambda: None) -> None:
    for loss_fn in losses:
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step(loss_fn) if isinstance(optimizer, DCAO) else optimizer.step()
        after()


def values(model: nn.Module) -> list[Tensor]:
    return [v.clone() for v in model.state_dict().values()]


# The exponential law.


@pytest.mark.parametrize("gap", ["spread", "gap"])
def test_exponential_is_the_printed_law(gap: str) -> None:
    w, loss_fn, H = quadratic(SPECTRUM)
    law: dict[str, Any] = dict(alpha=0.1, beta=0.05, gamma=0.2, k=3, gap=gap, tol=1e-10)
    optimizer = DCAO([w], lr=0.9, momentum=0.8, weight_decay=0.03, policy="exponential", **law)
    rho, gamma_H = 4.0, {"spread": 4.0 + 3.0, "gap": 4.0 + 3.0}[gap]  # the three of largest magnitude: 4, −3, 2.5
    eta, mu, decay = 0.9 * math.exp(-0.1 * rho), 0.8 * math.exp(-0.05 * gamma_H), 0.03 * math.exp(-0.2 * rho)
    v = w.detach().clone().requires_grad_()
    by_hand = torch.optim.SGD([v], lr=eta, momentum=mu, weight_decay=decay)
    for _ in range(5):
        train(optimizer, [loss_fn])
        by_hand.zero_grad()
        (v @ H @ v / 2).backward()
        by_hand.step()
    torch.testing.assert_close(w, v)
    assert optimizer.param_groups[0]["lr"] == 0.9
    assert optimizer.history[3].used == pytest.approx(eta)
    assert optimizer.history[0].sharpness == pytest.approx(rho)


def test_the_gap_is_between_the_two_of_largest_magnitude() -> None:
    for gap, expected in ("spread", 5.0), ("gap", 1.5):
        w, loss_fn, _ = quadratic(torch.tensor([4.0, 2.5, -1.0, 0.5, 0.1]))
        optimizer = DCAO([w], 1.0, policy="exponential", alpha=0.0, beta=0.1, k=3, gap=gap, tol=1e-10)
        train(optimizer, [loss_fn])
        assert optimizer.history[0].factors["momentum"] == pytest.approx(math.exp(-0.1 * expected))


def test_normalized_begins_at_what_was_asked_and_does_not_see_the_scale_of_the_loss() -> None:
    used: list[list[float]] = []
    for scale in 1.0, 10.0:
        model = network()
        optimizer = DCAO(model.parameters(), 0.5 / scale, policy="exponential", alpha=0.2, every=2, normalized=True)
        train(optimizer, [lambda f=f, scale=scale: scale * f() for f in batch_losses(model, 9)])
        used.append([scale * d.used for d in optimizer.history])
    assert used[0][0] == 0.5
    assert used[0] == pytest.approx(used[1], rel=1e-4)
    assert len(set(used[0])) > 3


def test_a_resting_point_exists_only_above_2e_alpha() -> None:
    """Sharpness grows until 2/η: then η = η₀ exp(−2α/η), which has a solution iff η₀ ≥ 2eα; below, the iteration collapses."""

    def rests_at(lr: float, alpha: float) -> float:
        eta = lr
        for _ in range(20_000):
            eta = lr * math.exp(-alpha * 2 / max(eta, 1e-12))
        return eta

    alpha = 0.05
    edge = 2 * math.e * alpha
    assert rests_at(1.02 * edge, alpha) > 2 * alpha  # the stable solution has 2α/η < 1
    assert rests_at(0.98 * edge, alpha) < 1e-9
    with pytest.warns(UserWarning, match="DCAO: lr=.* is below .* = 2eα; .* no resting point") as caught:
        DCAO(network().parameters(), 0.98 * edge, policy="exponential", alpha=alpha)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DCAO(network().parameters(), 1.02 * edge, policy="exponential", alpha=alpha)


@pytest.mark.parametrize("alpha", [0.05, 0.4, 3.0])
@pytest.mark.parametrize("rho_ref", [1e-2, 10.0])
def test_normalized_the_resting_point_is_in_units_of_the_first_sharpness(alpha: float, rho_ref: float) -> None:
    """η ← η₀ exp(−α(ρ/ρ_ref − 1)) at ρ = 2/η, from η₀ on; and the warning, which comes when ρ_ref is known."""

    def rests_at(lr: float) -> float:
        eta = lr
        for _ in range(20_000):
            eta = lr * math.exp(-alpha * (2 / max(eta, 1e-12) / rho_ref - 1))
        return eta * rho_ref

    least = 2 * min(alpha, 1) * math.exp(1 - min(alpha, 1)) / rho_ref
    assert rests_at(1.02 * least) > 1e-2
    assert rests_at(0.98 * least) < 1e-9

    def first_step(lr: float) -> None:
        w, loss_fn, _ = quadratic(torch.tensor([1.0, 0.5, 0.1]) * rho_ref)
        optimizer = DCAO([w], lr, policy="exponential", alpha=alpha, normalized=True, k=2, tol=1e-9)
        train(optimizer, [loss_fn])
        assert optimizer.history[0].used == lr

    with pytest.warns(UserWarning, match="DCAO: measuring before step 0: lr=.* no resting point") as caught:
        first_step(0.98 * least)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first_step(1.02 * least)


def test_exponential_keeps_the_last_values_on_a_failed_probe() -> None:
    model = network()
    optimizer = DCAO(model.parameters(), 0.5, policy="exponential", alpha=0.05, every=2)
    train(optimizer, [loss_of(model)] * 2)
    optimizer.zero_grad()
    loss_of(model)().backward()
    with pytest.warns(UserWarning, match="last values stay"):
        optimizer.step(lambda: loss_of(model)() * math.nan)
    assert optimizer.history[2].used == optimizer.history[1].used < 0.5
    assert optimizer.next_probe == 4


# The edge policy.


@pytest.mark.parametrize("decades", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("edge", [Edge(), Edge(bound="direction"), Edge(bound="direction", form="product")], ids=repr)
def test_governed_where_plain_diverges(decades: int, edge: Edge) -> None:
    spectrum = torch.logspace(-1, 1, 12)
    lr = 2 / 10.0 * 10.0**decades
    w, loss_fn, _ = quadratic(spectrum)
    start = loss_fn().item()
    train(DCAO([w], lr, momentum=0.0, policy=edge), [loss_fn] * 400)
    assert loss_fn().item() < 1e-2 * start
    plain, plain_loss, _ = quadratic(spectrum)
    train(torch.optim.SGD([plain], lr), [plain_loss] * 400)
    assert (not plain_loss().item() < start) == (decades > 0)


@pytest.mark.parametrize(
    ("name", "bound"),
    [("SGD", "auto"), ("SGD", "direction"), *((n, "auto") for n in ("Adam", "AdamW", "RMSprop", "NAdam"))],
)
def test_any_base_over_four_decades(name: str, bound: Any) -> None:
    for cls in getattr(torch.optim, name), getattr(thalweg, name):
        for lr in 0.01, 0.1, 1.0, 10.0, 100.0:
            model = network()
            before = loss_of(model)().item()
            train(DCAO(base=cls(model.parameters(), lr=lr), bound=bound), batch_losses(model, 100))
            assert loss_of(model)().item() < before, (cls, lr)


BASES: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: thalweg.SGD(p, 1e-4, momentum=0.9, weight_decay=0.1),
    "torch SGD": lambda p: torch.optim.SGD(p, 1e-4, momentum=0.9, nesterov=True),
    "AdamW": lambda p: thalweg.AdamW(p, 1e-5, weight_decay=0.1),
    "torch AdamW": lambda p: torch.optim.AdamW(p, 1e-5),
    "tensor lr": lambda p: torch.optim.AdamW(p, torch.tensor(1e-5)),
    "schedule-free": lambda p: thalweg.AdamWScheduleFree(p, 1e-5),
    "Muon": lambda p: thalweg.Muon([q for q in p if q.ndim > 1], 1e-5),
}


@pytest.mark.parametrize("bound", ["sharpness", "direction"])
@pytest.mark.parametrize("name", BASES)
def test_where_no_bound_is_reached_it_is_the_base_bit_for_bit(name: str, bound: Any) -> None:
    """With dropout and BatchNorm: measurements leave buffers and random numbers as they were."""

    def run(governed: bool) -> tuple[list[Tensor], Tensor]:
        model = network(nn.BatchNorm1d(6), nn.Dropout(0.2))
        base = BASES[name](model.parameters())
        train(DCAO(base=base, bound=bound, cap_every=4) if governed else base, batch_losses(model, 30))
        return values(model), torch.get_rng_state()

    (plain, rng), (governed, rng_governed) = run(False), run(True)
    assert all(map(torch.equal, plain, governed))
    assert torch.equal(rng, rng_governed)


@pytest.mark.parametrize("bound", ["sharpness", "direction"])
def test_bounds_are_those_of_the_quadratic(bound: Any) -> None:
    w, loss_fn, H = quadratic(torch.logspace(0, 1, 8))
    (g,) = torch.autograd.grad(loss_fn(), w)
    optimizer = DCAO([w], 5.0, sigma=1.0, bound=bound, products=8, margin=0.6, threshold=3.0)
    train(optimizer, [loss_fn])
    decision = optimizer.history[0]
    assert set(decision.bounds) == {bound, "slew"}
    if bound == "sharpness":
        assert (decision.sharpness, decision.residual) == (pytest.approx(10), pytest.approx(0, abs=1e-9))
        assert decision.bounds[bound] == pytest.approx(0.6 * 3 / 10)
        assert decision.ratio == pytest.approx(decision.used * 10 / 3)
    else:
        assert decision.bounds[bound] == pytest.approx((g @ g / (g @ H @ g)).item())
        assert math.isnan(decision.sharpness)
    assert decision.used == pytest.approx(0.05 * decision.bounds[bound])
    assert (decision.asked, decision.active) == (5.0, "slew")
    assert decision.cost == float(optimizer.used.gradient_equivalents) > 0


def test_the_rule_decides_which_bound() -> None:
    """Those that divide their steps, and those that nothing is known of, by the loss along the step."""
    expected = dict.fromkeys(BASES, "direction") | {"SGD": "sharpness", "torch SGD": "sharpness"}
    for name, base in BASES.items():
        model = network()
        optimizer = DCAO(base=base(model.parameters()))
        train(optimizer, [loss_of(model)])
        assert set(optimizer.history[0].bounds) == {expected[name], "slew"}, name


def test_forms_agree_and_equal_the_dense_matrix() -> None:
    model = network()
    params = list(model.parameters())
    u = [torch.randn(p.shape, generator=torch.Generator().manual_seed(i)) for i, p in enumerate(params)]
    probe = Probe(list(model.named_parameters()), [0] * 4, [1.0] * 4, loss_of(model), lambda factors: u)
    seen, exact = probe.along(u, 1e-4, "values"), probe.along(u, 1.0, "product")
    torch.testing.assert_close(list(vars(seen).values()), list(vars(exact).values()), rtol=1e-5, atol=1e-6)
    g = torch.autograd.grad(loss_of(model)(), params)
    assert exact.slope == pytest.approx(-sum((a * b).sum().item() for a, b in zip(g, u, strict=True)))


def test_groups_keep_their_proportions_and_the_cap_weighs_them() -> None:
    model = network()
    a, b = list(model[0].parameters()), list(model[2].parameters())
    base = torch.optim.SGD([{"params": a, "lr": 40.0}, {"params": b, "lr": 10.0}])
    optimizer = DCAO(base=base, products=51)  # as many as there are parameters
    flat = torch.cat([p.detach().flatten() for p in a + b])

    def at(z: Tensor) -> Tensor:
        parts = torch.split(z, [p.numel() for p in a + b])
        W1, b1, W2, b2 = (part.view(p.shape) for part, p in zip(parts, a + b, strict=True))
        return F.mse_loss((x @ W1.T + b1).tanh() @ W2.T + b2, y)

    H = torch.func.hessian(at)(flat)
    before, g = [p.detach().clone() for p in a + b], torch.autograd.grad(loss_of(model)(), a + b)
    train(optimizer, [loss_of(model)])
    rates = [40.0] * sum(p.numel() for p in a) + [10.0] * sum(p.numel() for p in b)
    root = torch.tensor(rates).div(40).sqrt()
    assert optimizer.history[0].sharpness == pytest.approx(torch.linalg.eigvalsh(root[:, None] * H * root)[-1].item())
    used = optimizer.history[0].used
    for p, was, slope, share in zip(a + b, before, g, [1, 1, 0.25, 0.25], strict=True):
        torch.testing.assert_close(p.detach(), was - used * share * slope)
    assert [group["lr"] for group in optimizer.param_groups] == [40.0, 10.0]


@pytest.mark.parametrize("bound", ["sharpness", "direction"])
def test_it_falls_at_once_and_rises_slowly(bound: Any) -> None:
    model = network()
    optimizer = DCAO(model.parameters(), 3.0, bound=bound, cap_every=10)
    train(optimizer, batch_losses(model, 150))
    used = [d.used for d in optimizer.history]
    assert all(b <= 1.05 * a * (1 + 1e-12) for a, b in pairwise(used))
    assert any(b < 0.8 * a for a, b in pairwise(used))
    assert {d.active for d in optimizer.history} == {"slew", bound}
    assert all(d.used <= min(d.asked, *d.bounds.values()) for d in optimizer.history)
    assert all(d.used == pytest.approx(min(d.bounds.values())) for d in list(optimizer.history)[1:])


def test_cdat_is_exact_line_search_on_a_quadratic() -> None:
    w, loss_fn, H = quadratic(torch.logspace(0, 1, 8))
    v = w.detach().clone()
    train(DCAO([w], 1e3, momentum=0.0, policy="cdat"), [loss_fn] * 6)
    for _ in range(6):
        g = H @ v
        v = v - (g @ g) / (g @ H @ g) * g
    torch.testing.assert_close(w.detach(), v)


# What it leaves alone.


STEPPING = [n for n, c in OPTIMIZERS.items() if hasattr(c, "rule")]


@pytest.mark.parametrize("name", STEPPING)
def test_a_rehearsal_foretells_the_step_and_leaves_no_trace(name: str) -> None:
    model = network()
    params = [p for p in model.parameters() if p.ndim > 1 or name != "muon"]
    optimizer = thalweg.create(name, params, lr=0.01)
    for loss_fn in batch_losses(model, 4):
        optimizer.zero_grad()
        loss_fn().backward()
        before, state = [p.detach().clone() for p in params], copy.deepcopy(optimizer.state_dict())
        groups = [dict(group) for group in optimizer.param_groups]
        gradients = [p.grad.clone() for p in params]
        foretold = rehearsed(optimizer, params)
        assert all(map(torch.equal, [*params, *gradients], [*before, *(p.grad for p in params)]))
        torch.testing.assert_close(optimizer.state_dict()["state"], state["state"], rtol=0, atol=0)
        assert optimizer.param_groups == groups
        optimizer.step()
        torch.testing.assert_close(
            [p.detach() - b for p, b in zip(params, before, strict=True)], foretold, rtol=0, atol=0
        )


POLICIES = [
    Edge(cap_every=5),
    Edge(bound="direction"),
    Edge(bound="direction", form="product"),
    Exponential(every=7),
    CDAT(),
]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("base", [thalweg.SGD, torch.optim.SGD])
def test_resumes_bit_for_bit(policy: Any, base: Any) -> None:
    def start() -> tuple[nn.Module, DCAO, Any]:
        model = network()
        optimizer = DCAO(base=base(model.parameters(), lr=1.0, momentum=0.9, weight_decay=0.01), policy=policy)
        return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)

    model, optimizer, schedule = start()
    losses = batch_losses(model, 60)
    train(optimizer, losses[:33], schedule.step)
    saved = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), schedule.state_dict()], saved)
    train(optimizer, losses[33:], schedule.step)

    other, resumed, schedule = start()
    saved.seek(0)
    for one, state in zip((other, resumed, schedule), torch.load(saved, weights_only=True), strict=True):
        one.load_state_dict(state)
    train(resumed, batch_losses(other, 60)[33:], schedule.step)
    assert all(map(torch.equal, values(model), values(other)))
    assert repr(list(resumed.history)) == repr(list(optimizer.history)[33:])


def test_a_schedule_is_the_ceiling() -> None:
    model = network()
    optimizer = DCAO(model.parameters(), 3.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3.0, total_steps=80, cycle_momentum=False)
    asked: list[float] = []
    for loss_fn in batch_losses(model, 80):
        asked.append(optimizer.param_groups[0]["lr"])
        train(optimizer, [loss_fn])
        assert optimizer.param_groups[0]["lr"] == asked[-1]
        schedule.step()
    assert [d.asked for d in optimizer.history] == asked
    assert all(d.used <= d.asked for d in optimizer.history)
    assert optimizer.history[-1].active == "schedule"
    assert any(d.active != "schedule" for d in optimizer.history)


def test_gradient_scaler_and_copies() -> None:
    def run(scaled: bool) -> list[Tensor]:
        model = network()
        optimizer = DCAO(model.parameters(), 1.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, enabled=scaled)
        for loss_fn in batch_losses(model, 12):
            optimizer.zero_grad()
            scaler.scale(loss_fn()).backward()
            scaler.step(optimizer, loss_fn)
            scaler.update()
        return values(model)

    torch.testing.assert_close(run(True), run(False))
    model = network()
    optimizer = DCAO(model.parameters(), 1.0)
    twin, of_twin = copy.deepcopy((model, optimizer))
    train(optimizer, [loss_of(model)] * 20)
    train(of_twin, [loss_of(twin)] * 20)
    assert all(map(torch.equal, values(model), values(twin)))
    assert of_twin.param_groups is of_twin.base.param_groups


def test_groups_are_the_bases() -> None:
    model = network()
    optimizer = DCAO(model[0].parameters(), 0.1)
    optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.2})
    assert optimizer.param_groups is optimizer.base.param_groups
    assert len(optimizer.param_groups) == 2
    train(optimizer, [loss_of(model)] * 3)
    assert optimizer.state is optimizer.base.state
    assert len(optimizer.state) == 4
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


# What goes wrong.


def test_no_loss_function_where_one_is_needed() -> None:
    model = network()
    optimizer = DCAO(model.parameters(), 0.1)
    loss_of(model)().backward()
    before = values(model)
    with pytest.raises(TypeError, match=r"step 0 measures curvature: call step\(loss_fn\)"):
        optimizer.step()
    assert all(map(torch.equal, before, values(model)))
    assert not optimizer.state
    assert not optimizer.history
    train(optimizer, batch_losses(model, 30))
    needed = optimizer.next_probe
    assert needed > 30
    for _ in range(30, needed):
        optimizer.step()
    with pytest.raises(TypeError, match=f"step {needed} measures"):
        optimizer.step()


def parameters() -> list[nn.Parameter]:
    return list(network().parameters())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DCAO(), TypeError, "either params"),
        (lambda: DCAO(parameters(), base=torch.optim.SGD(parameters())), TypeError, "either params"),
        (lambda: DCAO(parameters(), policy="edges"), ValueError, "policy='edges' is unknown"),
        (lambda: DCAO(parameters(), sigmo=2.0), TypeError, "did you mean 'sigma'"),
        (lambda: DCAO(parameters(), sigma=-1.0), ValueError, "Edge: sigma=-1.0"),
        (lambda: DCAO(parameters(), every=0), ValueError, "Edge: every=0"),
        (lambda: DCAO(parameters(), bound="curvature"), ValueError, "Edge: bound='curvature'"),
        (lambda: DCAO(parameters(), products=0), ValueError, "Edge: products=0"),
        (lambda: DCAO(parameters(), budget=-0.1), ValueError, "Edge: budget=-0.1"),
        (lambda: DCAO(parameters(), tol=0.1), TypeError, "'tol'"),
        (lambda: DCAO(parameters(), policy="exponential", k=1), ValueError, "Exponential: k=1"),
        (lambda: DCAO(parameters(), policy="exponential", gap="wide"), ValueError, "Exponential: gap='wide'"),
        (lambda: DCAO(parameters(), policy="cdat", average=1.0), ValueError, "CDAT: average"),
        (lambda: DCAO(parameters(), lr=-0.1), ValueError, "lr=-0.1"),
        (lambda: DCAO(base=thalweg.AdamW(parameters()), policy="exponential"), ValueError, "moves momentum"),
        (lambda: DCAO(base=thalweg.NewtonCG(parameters())), TypeError, "NewtonCG evaluates the loss itself"),
    ],
)
def test_bad_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_state_dict_that_does_not_fit() -> None:
    model = network()
    optimizer = DCAO(model.parameters(), 0.1)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="has no 'control'"):
        optimizer.load_state_dict(optimizer.base.state_dict())
    with pytest.raises(ValueError, match="of policy CDAT; this one's is Edge"):
        optimizer.load_state_dict(DCAO(model.parameters(), 0.1, policy="cdat").state_dict())
    assert repr(optimizer.state_dict()) == repr(before)


def test_all_groups_at_zero() -> None:
    model = network()
    optimizer = DCAO(model.parameters(), 0.0)
    before = values(model)
    loss_of(model)().backward()
    optimizer.step()
    assert all(map(torch.equal, before, values(model)))
    assert (optimizer.history[0].used, optimizer.history[0].active) == (0.0, "schedule")


@pytest.mark.parametrize("bound", ["sharpness", "direction"])
def test_a_loss_that_is_not_finite(bound: Any) -> None:
    """Before anything is known no step is made; later the learning rate halves at each; training state stays intact."""
    model = network()
    optimizer = DCAO(model.parameters(), 0.1, momentum=0.0, bound=bound, cap_every=30)
    before = values(model)
    loss_of(model)().backward()
    with pytest.warns(UserWarning, match="before step 0: .* halved"):
        optimizer.step(lambda: loss_of(model)() * math.nan)
    assert all(map(torch.equal, before, values(model)))
    assert optimizer.history[0].used == 0
    train(optimizer, [loss_of(model)] * 40)
    steady = optimizer.history[-1].used
    while optimizer.steps < optimizer.next_probe:
        train(optimizer, [loss_of(model)])
    for _ in range(3):
        optimizer.step(lambda: loss_of(model)() * math.nan)
    assert optimizer.history[-1].used < steady / 6
    assert "not finite" in optimizer.history[-1].note or "nan" in optimizer.history[-1].note
    train(optimizer, [loss_of(model)])
    assert optimizer.history[-1].note == ""


@pytest.mark.parametrize("bound", ["sharpness", "direction"])
@pytest.mark.parametrize("how", ["another batch", "an eighth of it"])
def test_a_loss_that_is_not_the_gradients_is_found(how: str, bound: Any) -> None:
    """By the gradients at once, by slopes in the average of some looks."""
    model = network()
    optimizer = DCAO(model.parameters(), 0.05, momentum=0.0, bound=bound)
    losses, others = ([lambda i=i: F.mse_loss(model(x[i]), y[i]) for i in order] for order in (rows(0), rows(1)))
    if how == "an eighth of it":
        others = [lambda loss_fn=loss_fn: loss_fn() / 8 for loss_fn in losses]

    def run() -> None:
        for loss_fn, other in zip(losses, others, strict=True):
            optimizer.zero_grad()
            loss_fn().backward()
            optimizer.step(other)

    with pytest.warns(UserWarning, match="must return the loss that backward"):
        run()
    assert bool(optimizer.history[0].note) == (bound == "sharpness")


def rows(seed: int) -> Tensor:
    return torch.randint(24, (500, 1), generator=torch.Generator().manual_seed(seed))


def test_negative_curvature_everywhere() -> None:
    w, loss_fn, _ = quadratic(torch.tensor([-1.0, -2.0, -3.0]))
    optimizer = DCAO([w], 10.0, products=3)
    train(optimizer, [loss_fn] * 30)
    assert optimizer.history[0].bounds["sharpness"] == math.inf
    used = [d.used for d in optimizer.history]
    assert used == pytest.approx([min(0.05 * 10.0 * 1.05**t, 10.0) for t in range(30)])
    assert isinstance(optimizer.history[0], Decision)
