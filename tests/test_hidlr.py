"""Hi-DLR: each group's learning rate against the closed form on quadratics, its forms against each other."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import thalweg
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


def test_full_solves_for_the_groups_that_move_and_are_convex() -> None:
    """A group at learning rate 0 and one along which the loss is concave keep theirs; the other two are solved together."""
    H = torch.diag(torch.tensor([8.0, 0.5, 3.0, -1.0])) + 0.2 * (1 - torch.eye(4))
    ws = [torch.ones(1, requires_grad=True) for _ in range(4)]

    def loss_fn() -> Tensor:
        w = torch.cat(ws)
        return w @ H @ w / 2

    g = H @ torch.ones(4)
    expected = torch.linalg.solve((g[:2, None] * H[:2, :2] * g[:2]), g[:2] ** 2)
    rates = [0.9 * x for x in expected.tolist()]
    optimizer = HiDLR(SGD(groups(ws, *rates, 0.0, 0.1)), form="full", average=0.0)
    step(optimizer, loss_fn)
    factors: Any = optimizer.history[0].factors["lr"]
    assert [f * r for f, r in zip(factors[:2], rates, strict=True)] == pytest.approx(expected.tolist())
    assert factors[2:] == (1.0, 1.0)
    assert [reading.ppi for reading in optimizer.history[0].groups[2:]] == pytest.approx([0.0, math.nan], nan_ok=True)


# Groups by name, and what they are worth.


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def by_layer(model: nn.Module) -> dict[str, Any]:
    return {name: m.parameters() for name, m in model.named_children()}


def test_groups_by_name_keep_hyperparameters_state_and_steps() -> None:
    """Before the learning rates part, the steps are those of the base as it was, in the midst of a run too."""
    x, y = torch.randn(16, 3), torch.randn(16, 2)
    models = [network(), network()]
    bases = [thalweg.AdamW(m.named_parameters(), lr=0.01, weight_decay=0.1) for m in models]

    def train(model: nn.Module, optimizer: Any, times: int) -> None:
        for _ in range(times):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step(*[lambda: F.mse_loss(model(x), y)] * isinstance(optimizer, HiDLR))

    for model, base in zip(models, bases, strict=True):
        train(model, base, 5)
    optimizer = HiDLR(bases[0], groups=by_layer(models[0]), factor=1.0)
    train(models[0], optimizer, 5)
    train(models[1], bases[1], 5)
    assert [group["name"] for group in optimizer.param_groups] == ["0", "2", "4"]
    assert [group["param_names"] for group in optimizer.param_groups] == [
        [f"{i}.weight", f"{i}.bias"] for i in (0, 2, 4)
    ]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))
    again = HiDLR(thalweg.AdamW(models[0].named_parameters()), groups=by_layer(models[0]))
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, thalweg.Adam, thalweg.NAdam])
def test_a_name_that_takes_from_several_groups(make: Any) -> None:
    model = network()
    decayed, others = [[p for p in model.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False)]
    base = make([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=0.01)
    optimizer = HiDLR(
        base, groups={"in": model[0].parameters(), "rest": [*model[2].parameters(), *model[4].parameters()]}
    )
    names = [(group["name"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    assert names == [
        ("in, group 0", 0.1, 1),
        ("rest, group 0", 0.1, 2),
        ("in, group 1", 0.0, 1),
        ("rest, group 1", 0.0, 2),
    ]
    step(optimizer, lambda: model(torch.ones(2, 3)).square().mean(), 3)
    assert len(optimizer.history[0].groups) == 4


@pytest.mark.parametrize(
    ("choose", "error", "message"),
    [
        (lambda m: [m[0].parameters()], TypeError, "groups is list; it must map names to parameters"),
        (
            lambda m: {"a": m[0].parameters(), "b": m.parameters()},
            ValueError,
            r"'0.weight', .* in groups\['a'\] and in .*'b'",
        ),
        (
            lambda m: {"a": m.parameters(), "b": [torch.ones(2)]},
            ValueError,
            r"groups\['b'\] has parameter 0, shape \(2,\), which",
        ),
        (
            lambda m: {"a": m[0].parameters()},
            ValueError,
            r"'2.weight', shape \(8, 8\), and 3 more of the optimizer is under no",
        ),
    ],
)
def test_groups_that_do_not_fit(choose: Callable[[nn.Sequential], Any], error: type[Exception], message: str) -> None:
    model = network()
    base = SGD(model.named_parameters())
    before = repr(base.param_groups)
    with pytest.raises(error, match=f"HiDLR: .*{message}"):
        HiDLR(base, groups=choose(model))
    assert repr(base.param_groups) == before


@pytest.mark.parametrize("form", FORMS)
def test_ppi_ranks_groups_and_finds_the_useless_one(form: Any) -> None:
    """Where a layer's output is not used it is 0; against the formula, with the dense matrix of the network's loss."""
    model: Any = network()
    model.dead = nn.Linear(3, 2)
    x = torch.randn(32, 3)
    y = torch.stack([x.sum(1), x[:, 0] * x[:, 1]], 1)

    def loss_fn() -> Tensor:
        return F.mse_loss(model[:5](x) + 0 * model.dead(x), y)

    with pytest.raises(RuntimeError, match="HiDLR: nothing was measured"):
        HiDLR(model.parameters()).ppi()
    lr = 1e-4 if form == "values" else 0.05
    optimizer = HiDLR(SGD(model.parameters(), lr), groups=by_layer(model), form=form, every=1)
    named, expected = dict(model[:5].named_parameters()), list[float]()
    for layer in "0", "2", "4":
        own = {n: p for n, p in named.items() if n.startswith(layer)}
        downhill = dict(zip(own, torch.autograd.grad(loss_fn(), list(own.values())), strict=True))

        def along(t: Tensor, d: dict[str, Tensor] = downhill) -> Tensor:
            return F.mse_loss(torch.func.functional_call(model[:5], {n: named[n] - t * d[n] for n in d}, (x,)), y)

        t = torch.zeros((), requires_grad=True)
        (first,) = torch.autograd.grad(along(t), t, create_graph=True)
        (second,) = torch.autograd.grad(first, t)
        expected.append((first**2 / (second * sum(p.numel() for p in own.values()))).item())
    step(optimizer, loss_fn)
    found = optimizer.ppi()
    assert [one.last for one in found] == pytest.approx([*expected, 0.0], rel=1e-3 if form == "values" else 1e-9)
    assert [(one.name, one.parameters) for one in found] == [("0", 32), ("2", 72), ("4", 18), ("dead", 8)]
    step(optimizer, loss_fn, 6)
    found = optimizer.ppi()
    for k, one in enumerate(found):
        own = sorted(d.groups[k].ppi for d in optimizer.history)
        assert one.ppi == own[3]
        assert one.last == optimizer.history[-1].groups[k].ppi
    factors: Any = optimizer.history[-1].factors["lr"]
    assert [one.lr for one in found] == pytest.approx([lr * f for f in factors])
    header, *lines = str(found).splitlines()
    assert header.split() == ["group", "parameters", "lr", "PPI", "last", "PPI"]
    assert lines[-1].split()[0] == "dead"
    assert len({len(line) for line in (header, *lines)}) == 1


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
