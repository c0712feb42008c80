"""Stability thresholds against closed forms and the optimizers themselves; preconditioned curvature against dense matrices."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

import thalweg
from thalweg.conformance.sharded import in_two_processes
from thalweg.core.optimizer import Optimizer
from thalweg.core.rule import identity, rule
from thalweg.curvature import (
    Operator,
    batch_sharpness,
    eigenpairs,
    hessian,
    preconditioned,
    sharpness_ratio,
    stability_threshold,
)
from thalweg.curvature.followed import followed
from thalweg.curvature.space import joined
from thalweg.curvature.stability import closed_form, numerically, of_shapes
from thalweg.registry import OPTIMIZERS

beta = st.floats(0.0, 0.99)
lrs = st.floats(1e-6, 1e3)
some = settings(max_examples=20, deadline=None)
few = settings(max_examples=5, deadline=None)


def made(name: str, **kwargs: Any) -> torch.optim.Optimizer:
    """A rule of the registry on a matrix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of variants that are unsafe
        return thalweg.create(name, [torch.zeros(2, 2, requires_grad=True)], **kwargs)


def threshold(name: str, **kwargs: Any) -> float:
    (found,) = stability_threshold(made(name, **kwargs))
    return found


def from_the_rule(name: str, **kwargs: Any) -> float:
    (one,) = followed(made(name, **kwargs))
    return numerically(one, matrix=True)


# Thresholds.


@some
@given(lr=lrs, b=beta)
def test_closed_forms_are_those_of_the_papers(lr: float, b: float) -> None:
    def equal(found: float, expected: float) -> None:
        assert found == pytest.approx(expected, rel=1e-12)

    equal(threshold("sgd", lr=lr), 2 / lr)
    equal(threshold("adagrad", lr=lr), 2 / lr)
    equal(threshold("adadelta", lr=lr), 2 / lr)
    equal(threshold("rmsprop", lr=lr), 2 / lr)
    equal(threshold("rmsprop", lr=lr, momentum=b), (2 + 2 * b) / lr)
    equal(threshold("sgd", lr=lr, momentum=b), (2 + 2 * b) / lr)
    for name in ("adam", "adamw"):
        equal(threshold(name, lr=lr, betas=(b, 0.9)), (2 + 2 * b) / ((1 - b) * lr))
    if b:
        equal(threshold("sgd", lr=lr, momentum=b, nesterov=True), (2 + 2 * b) / ((1 + 2 * b) * lr))
        equal(threshold("sgd", lr=lr, momentum=b, nesterov="lookahead"), (2 + 2 * b) / ((1 + 2 * b) * lr))
        equal(threshold("sgd", lr=lr, momentum=b, ema=True), (2 + 2 * b) / ((1 - b) * lr))
        equal(threshold("muon", lr=lr, momentum=b, nesterov=False, ema=False), (2 + 2 * b) / lr)
        equal(threshold("muon", lr=lr, momentum=b), (2 + 2 * b) / ((1 - b) * (1 + 2 * b) * lr))
    equal(threshold("lbfgs", lr=lr), 2 / lr)
    equal(threshold("newton_cg", lr=lr), 2 / lr)


FORMS: dict[str, Callable[[float, float], tuple[str, dict[str, Any]]]] = {
    "Polyak": lambda b, c: ("sgd", dict(momentum=b)),
    "dampened": lambda b, c: ("sgd", dict(momentum=b, dampening=1 - 2 * c)),
    "Nesterov": lambda b, c: ("sgd", dict(momentum=b, nesterov=b > 0)),
    "look-ahead": lambda b, c: ("sgd", dict(momentum=b, nesterov="lookahead" if b else False)),
    "average": lambda b, c: ("sgd", dict(momentum=b, ema=b > 0)),
    "adam": lambda b, c: ("adam", dict(betas=(b, c))),
    "amsgrad": lambda b, c: ("adam", dict(betas=(b, c), amsgrad=True)),
    "adamw": lambda b, c: ("adamw", dict(betas=(b, c), weight_decay=0.1)),
    "rmsprop": lambda b, c: ("rmsprop", dict(alpha=c)),
    "rmsprop, momentum": lambda b, c: ("rmsprop", dict(alpha=c, momentum=b)),
    "centred": lambda b, c: ("rmsprop", dict(alpha=c, momentum=b, centered=True)),
    "adagrad": lambda b, c: ("adagrad", dict(initial_accumulator_value=c)),
    "adagrad, eps inside": lambda b, c: ("adagrad", dict(eps_inside=True)),
    "adadelta": lambda b, c: ("adadelta", dict(rho=c)),
    "muon": lambda b, c: ("muon", dict(momentum=b)),
    "muon, of the sum": lambda b, c: ("muon", dict(momentum=b, nesterov=False, ema=False)),
    "options": lambda b, c: (
        "adam",
        dict(betas=(b, c), clip=c, cautious=True, normalize=b, centralize=b, maximize=True),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@few
@example(lr=1.0, b=0.5, c=6.8e-14, matrix=False)
@given(lr=lrs, b=beta, c=beta, matrix=st.booleans())
def test_closed_forms_are_what_the_rules_do(form: str, lr: float, b: float, c: float, matrix: bool) -> None:
    name, kwargs = FORMS[form](b, c)
    (one,) = followed(made(name, lr=lr, **kwargs))
    expected = closed_form(one)
    assert expected is not None
    if expected * lr > 1e12:  # where the search ends, and whatever is beyond it counts as none
        expected = math.inf
    assert numerically(one, matrix) == pytest.approx(expected, rel=1e-6)


@few
@given(lr=lrs, b=st.floats(0.05, 0.99))
def test_rules_without_a_closed_form_in_the_code_have_their_limits(lr: float, b: float) -> None:
    def equal(found: float, expected: float) -> None:
        assert found == pytest.approx(expected, rel=1e-6)

    # NAdam's momentum warms up from half of β₁, where it stays with ψ = 0; a fresh one is taken for warm.
    nadam = (2 + 2 * b) / ((1 - b) * (1 + 2 * b) * lr)
    half = b / 2 * (1 - b) / (1 + b) + 1 - b / 2
    x = torch.ones(3, requires_grad=True)
    optimizer = thalweg.NAdam([x], lr=lr, betas=(b, 0.9), momentum_decay=0.0)
    equal(stability_threshold(optimizer)[0], nadam)
    x.grad = torch.ones(3)
    for _ in range(60):
        optimizer.step()
    equal(stability_threshold(optimizer)[0], 2 / (lr * half))
    # The average weighs the newest z by c = 1/t.
    c = 1e-4
    free = (4 - 2 * c) / (2 * (1 - b) + c * (2 * b - 1)) / lr
    equal(threshold("sgd_schedule_free", lr=lr, momentum=b), free)
    equal(threshold("adamw_schedule_free", lr=lr, betas=(b, 0.9)), free)
    equal(threshold("sgd", lr=lr, average=("schedule_free", b)), free)
    # MARS's change is twice a gradient that alternates.
    reduced = 1 + 2 * 0.1 * b / (1 - b)
    adam = (2 + 2 * b) / ((1 - b) * lr)
    for variant in ("adamw", "shampoo"):
        equal(threshold("mars", lr=lr, betas=(b, 0.9), gamma=0.1, variant=variant), adam / reduced)
    equal(threshold("adam", lr=lr, betas=(b, 0.9), mars=0.1), adam / reduced)
    polyak = threshold("sgd", lr=lr, momentum=b)
    equal(threshold("muon", lr=lr, momentum=b, nesterov=False, ema=False, mars=0.1), polyak / reduced)
    # h = g + αm.
    for variant in ("stable", "published", "equations"):
        saveus = threshold("saveus", lr=lr, betas=(b, 0.9), amp_fac=3.0, variant=variant)
        equal(saveus, 2 / (lr * (1 + 3 * (1 - b) / (1 + b))))


def test_amplified_momenta_count() -> None:
    t = 10_000
    b1, bm, gamma, power = 0.9, 0.8, 0.05, 0.2
    reduced = 1 + 2 * gamma * b1 / (1 - b1)
    m = (1 - bm) / (1 + bm)
    own: dict[str, Any] = dict(lr=0.5, betas=(b1, 0.99), momentum_beta=bm, momentum_lambda=power, gamma=gamma)

    def equal(found: float, gain: float) -> None:
        assert found == pytest.approx(4 / gain, rel=1e-6)

    equal(threshold("dope", **own), reduced * (1 + t**power * m))
    equal(threshold("dope", amplification_cap=3.0, **own), reduced * (1 + 3 * m))
    equal(threshold("dope", variant="published", **own), 1 + power * t**power * m)
    # ExMachina adds the momentum of the step before, of the other sign.
    own |= dict(momentum_beta=0.99)
    equal(threshold("exmachina", **own), reduced * (1 - t**power * 0.01 / 1.99))


PAGE = Path(__file__).parents[1] / "docs" / "curvature-thresholds.md"
TABLE = PAGE.read_text().partition("\n## All rules\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| `(\w+\(.*\))` \|.*\| ([\d.]+|NaN) \|$", TABLE, re.MULTILINE)


def test_the_page_has_every_optimizer_and_their_numbers() -> None:
    assert {row.split("(")[0] for row, _ in ROWS} == {cls.__name__ for cls in OPTIMIZERS.values()}
    for row, value in ROWS:
        cls, arguments = row.split("(", 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            x = torch.zeros(2, 2, requires_grad=True)
            optimizer = eval(f"thalweg.{cls}([x], {arguments}", {"thalweg": thalweg, "x": x})
        (found,) = stability_threshold(optimizer)
        assert f"{found * float(optimizer.param_groups[0]['lr']):.3f}".replace("nan", "NaN") == value, row


SIMULATED: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient descent": ("sgd", {}),
    "Polyak": ("sgd", dict(momentum=0.9)),
    "Nesterov": ("sgd", dict(momentum=0.9, nesterov=True)),
    "dampened": ("sgd", dict(momentum=0.9, dampening=0.5)),
    "rmsprop": ("rmsprop", dict(momentum=0.5)),
    "adagrad": ("adagrad", {}),
    "adadelta": ("adadelta", {}),
    "adam": ("adam", {}),
    "adamw": ("adamw", dict(weight_decay=0.0)),
    "nadam": ("nadam", dict(momentum_decay=1.0)),
    "averaged": ("adam", dict(average="ema")),
    "sgd_schedule_free": ("sgd_schedule_free", {}),
    "adamw_schedule_free": ("adamw_schedule_free", {}),
    "saveus": ("saveus", dict(centralization=0.0, normalization=0.0)),
    "mars": ("mars", {}),
    "mars of anything": ("rmsprop", dict(mars=0.05)),
    "exmachina": ("exmachina", dict(cautious=False, weight_decay=0.0)),
    "dope": ("dope", dict(cautious=False, weight_decay=0.0, centralization=0.0, normalization=0.0)),
    "dope, tuned": ("dope", dict(preset="tuned", weight_decay=0.0, centralization=0.0, normalization=0.0)),
}


@pytest.mark.parametrize("name", SIMULATED)
def test_steps_shrink_below_the_threshold_and_grow_above(name: str) -> None:
    """With ε = 1 and numbers whose squares are nothing beside it, P is 1 in the optimizer itself."""
    rule, kwargs = SIMULATED[name]
    eps = dict(eps=1.0) if "eps" in made(rule).defaults else {}
    direction = torch.tensor([[1.0, -1.0]]) * 1e-40

    def growth(relative: float) -> float:
        x = direction.clone().requires_grad_()
        optimizer = thalweg.create(rule, [x], lr=0.5, run="each", **eps, **kwargs)

        def run(curvature: float, steps: int) -> float:
            sizes: list[float] = []
            for _ in range(steps):
                x.grad = curvature * x.detach()
                optimizer.step()
                sizes.append(abs(x[0, 0].item()))
            return max(sizes[-50:]) / max(sizes[100:150])

        run(1e-2, 400)
        return run(relative * stability_threshold(optimizer)[0], 400)

    assert growth(0.99) < 1 < growth(1.01)


@few
@given(lr=st.floats(1e-4, 10), b=st.floats(0.1, 0.9))
def test_thresholds_scale_with_the_learning_rate_and_grow_with_smoothing(lr: float, b: float) -> None:
    for name in ("saveus", "adamw_schedule_free"):
        assert threshold(name, lr=lr, betas=(b, 0.9)) == pytest.approx(
            threshold(name, lr=1.0, betas=(b, 0.9)) / lr, rel=1e-6
        )
        assert threshold(name, lr=lr, betas=(b + 0.05, 0.9)) > threshold(name, lr=lr, betas=(b, 0.9))


def test_every_rule_of_the_registry_has_a_threshold() -> None:
    for name in OPTIMIZERS:
        assert 0 < threshold(name) < math.inf
    assert math.isnan(threshold("mars", variant="lion"))
    assert math.isnan(threshold("dope", variant="equations"))
    assert 0 < threshold("dope", variant="published") < math.inf
    assert 0 < threshold("mars", exact=True) < math.inf


def test_a_rule_that_changes_with_time_has_the_threshold_of_its_next_step() -> None:
    x = torch.zeros(3, requires_grad=True)
    optimizer = thalweg.SGDScheduleFree([x], lr=1.0)
    for t in range(1, 20):
        x.grad = torch.zeros(3)
        optimizer.step()
        c = 1 / (t + 1)
        assert stability_threshold(optimizer)[0] == pytest.approx((4 - 2 * c) / (0.2 + 0.8 * c), rel=1e-6)
    assert optimizer.state[x]["step"] == 19


def test_a_rule_of_ones_own_has_the_threshold_of_its_step() -> None:
    @rule(allowed={}, denominator=identity)
    def sgd(g: Tensor, p: Tensor, t: float) -> Tensor:
        """Twice the gradient, under the name of another rule."""
        return 2 * g

    class Own(Optimizer, rule=sgd):
        def __init__(self, params: Any) -> None:
            super().__init__(params, dict(lr=0.5, weight_decay=0.0), {})

    class Undeclared(Own, rule=rule()(sgd.update)):
        """Of which P is not known."""

    x = torch.ones(2, requires_grad=True)
    assert stability_threshold(Own([x])) == pytest.approx([2.0])
    assert math.isnan(stability_threshold(Undeclared([x]))[0])
    H = hessian(lambda: (x**4).sum(), [x])
    assert sharpness_ratio(H, Own([x])).ratio == pytest.approx(6.0)
    with pytest.raises(ValueError, match=r"Undeclared: .*declares nothing diagonal"):
        preconditioned(H, Undeclared([x]))


def test_groups_tensors_and_edges() -> None:
    x, y = (torch.zeros(2, 2, requires_grad=True) for _ in range(2))
    groups = [{"params": [x], "lr": torch.tensor(0.5)}, {"params": [y], "lr": 0.0}]
    assert stability_threshold(torch.optim.SGD(groups)) == [4.0, math.inf]
    assert stability_threshold(thalweg.SAVEUS(groups))[1] == math.inf
    assert threshold("sgd", lr=1.0, momentum=0.9, dampening=1.5) == 0.0
    assert from_the_rule("sgd", lr=1.0, momentum=0.9, dampening=1.5) == 0.0
    mixed = thalweg.Mixed([{"params": [x], "optimizer": "muon", "lr": 1.0}, {"params": [y], "optimizer": "sgd"}])
    assert stability_threshold(mixed) == pytest.approx([3.9 / (0.05 * 2.9), 2000.0])


def test_the_vectors_of_mars_follow_adam() -> None:
    matrix, vector = torch.zeros(2, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
    kwargs: dict[str, Any] = dict(lr=0.1, lr_1d=0.2, betas_1d=(0.8, 0.9))
    assert stability_threshold(thalweg.MARS([vector], **kwargs)) == pytest.approx([2 * 1.8 / 0.2 / 0.2], rel=1e-6)
    assert stability_threshold(thalweg.MARS([matrix], **kwargs)) == pytest.approx([40 / 0.1], rel=1e-6)
    assert stability_threshold(thalweg.MARS([matrix, vector], **kwargs)) == pytest.approx(
        [2 * 1.8 / 0.2 / 0.2], rel=1e-6
    )


TORCHS = ("SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW", "NAdam", "Muon", "LBFGS")


@pytest.mark.parametrize("name", TORCHS)
def test_torchs_optimizers_have_the_thresholds_of_ours(name: str) -> None:
    x = torch.zeros(2, 2, requires_grad=True)
    assert stability_threshold(getattr(torch.optim, name)([x], lr=0.1)) == stability_threshold(
        getattr(thalweg, name)([x], lr=0.1)
    )


def test_an_unknown_optimizer_is_named() -> None:
    class Adam(torch.optim.Adam):
        """One whose step might be another."""

    x = torch.zeros(2, requires_grad=True)
    for optimizer in (torch.optim.RAdam([x]), Adam([x])):
        with pytest.raises(
            ValueError, match=rf"{type(optimizer).__name__}, whose rule is not known; known are .*AdamW"
        ):
            stability_threshold(optimizer)
        with pytest.raises(ValueError, match="not known"):
            preconditioned(hessian(lambda: (x * x).sum(), [x]), optimizer)


def test_wrapped_optimizers_are_those_inside() -> None:
    from accelerate import Accelerator

    inner = torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.5)
    wrapped: Any = Accelerator(cpu=True).prepare_optimizer(inner)
    assert wrapped is not inner
    assert stability_threshold(wrapped) == [4.0]


# Preconditioned curvature.


def problem(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Callable[[], Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    x, y = torch.randn(16, 4, dtype=dtype), torch.randint(3, (16,))
    return model, lambda: F.cross_entropy(model(x), y)


def trained(model: nn.Module, loss_fn: Callable[[], Tensor], optimizer: torch.optim.Optimizer, steps: int = 5) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step()


def dense(operator: Operator) -> Tensor:
    return torch.stack([operator.matvec(row) for row in torch.eye(operator.shape[0])], 1)


def root(s: dict[str, Any], h: dict[str, Any], name: str = "exp_avg_sq") -> Tensor:
    return (s[name] / (1 - h["betas"][1] ** float(s["step"]))).sqrt() + h["eps"]


def mars_vectors(s: dict[str, Any], h: dict[str, Any]) -> Tensor:
    betas = h["betas"] if s["exp_avg_sq"].ndim > 1 else h["betas_1d"]
    return root(s, h | {"betas": betas})


def dope(s: dict[str, Any], h: dict[str, Any]) -> Tensor:
    d = (s["fim_diff"] / (1 - h["betas"][0] ** (float(s["step"]) - 1))).sqrt() + h["eps"]
    return root(s, h, "fim") * d


def dope_published(s: dict[str, Any], h: dict[str, Any]) -> Tensor:
    d = (s["fim_diff"] / (1 - h["betas"][0] ** float(s["step"]))).sqrt() * h["diff_mult"] + h["eps2"]
    kappa = h["gamma"] * h["betas"][0] / (1 - h["betas"][0])
    return 1 / (1 / (root(s, h, "fim") * d) + kappa)


OFF: dict[str, Any] = dict(centralization=0.0, normalization=0.0)
BOLD = OFF | dict(cautious=False)
METRICS: dict[str, tuple[str, dict[str, Any], Callable[[dict[str, Any], dict[str, Any]], Any]]] = {
    "sgd": ("SGD", dict(momentum=0.9), lambda s, h: 1.0),
    "sgd_schedule_free": ("SGDScheduleFree", {}, lambda s, h: 1.0),
    "adam": ("Adam", {}, root),
    "amsgrad": ("Adam", dict(amsgrad=True), lambda s, h: root(s, h, "max_exp_avg_sq")),
    "adamw": ("AdamW", {}, root),
    "nadam": ("NAdam", {}, root),
    "adamw_schedule_free": ("AdamWScheduleFree", {}, root),
    "rmsprop": ("RMSprop", {}, lambda s, h: s["square_avg"].sqrt() + h["eps"]),
    "centred": (
        "RMSprop",
        dict(centered=True, momentum=0.5),
        lambda s, h: (s["square_avg"] - s["grad_avg"] ** 2).sqrt() + h["eps"],
    ),
    "adagrad": ("Adagrad", dict(lr_decay=0.1), lambda s, h: s["sum"].sqrt() + h["eps"]),
    "adagrad, eps inside": ("Adagrad", dict(eps_inside=True), lambda s, h: (s["sum"] + h["eps"]).sqrt()),
    "adadelta": (
        "Adadelta",
        {},
        lambda s, h: ((s["square_avg"] + h["eps"]) / (s["acc_delta"] + h["eps"])).sqrt(),
    ),
    "saveus": ("SAVEUS", OFF, root),
    "saveus, published": ("SAVEUS", OFF | dict(variant="published"), root),
    "saveus, equations": (
        "SAVEUS",
        OFF | dict(variant="equations"),
        lambda s, h: root(s, h) * (root(s, h) - h["eps"]),
    ),
    "mars": ("MARS", {}, mars_vectors),
    "exmachina": (
        "ExMachina",
        dict(cautious=False),
        lambda s, h: s["fim"].sqrt().clamp(min=h["eps"]) * s["fim_diff"].sqrt().clamp(min=h["eps"]),
    ),
    "dope": ("DOPE", BOLD, dope),
    "dope, F alone": ("DOPE", BOLD | dict(diff_mult=0.0), lambda s, h: root(s, h, "fim")),
    "dope, published": ("DOPE", BOLD | dict(variant="published"), dope_published),
}
CASES = [(thalweg, name) for name in METRICS] + [
    (torch.optim, name)
    for name in ("sgd", "adam", "amsgrad", "adamw", "nadam", "rmsprop", "centred", "adagrad", "adadelta")
]


@pytest.mark.parametrize(("package", "name"), CASES, ids=[f"{p.__name__}.{n}" for p, n in CASES])
def test_eigenvalues_are_those_of_the_dense_matrix_divided_by_p(package: Any, name: str) -> None:
    model, loss_fn = problem()
    cls, kwargs, formula = METRICS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        optimizer = getattr(package, cls)(model.parameters(), lr=1e-3, **kwargs)
    trained(model, loss_fn, optimizer)
    (group,) = optimizer.param_groups
    P = joined(torch.ones_like(p) * formula(optimizer.state[p], group) for p in model.parameters()).detach()
    H = hessian(loss_fn, model)
    metric = preconditioned(H, optimizer)
    torch.testing.assert_close(metric.scale, P.rsqrt(), rtol=1e-12, atol=0.0)
    expected = torch.linalg.eigvals(dense(H) / P[:, None])
    assert expected.imag.abs().max() < 1e-6 * expected.abs().max()
    largest = expected.real.max()
    found = eigenpairs(metric, tol=1e-8)
    torch.testing.assert_close(found.eigenvalues[0], largest, rtol=1e-10, atol=0.0)
    (one,) = followed(optimizer)
    bound = joined(torch.full_like(p, of_shapes(one)[p.ndim > 1]) for p in model.parameters())
    largest = torch.linalg.eigvals(dense(H) / (P * bound)[:, None]).real.max()
    assert sharpness_ratio(H, optimizer, tol=1e-8).ratio == pytest.approx(largest.item(), rel=1e-8)


def test_what_divides_is_what_was_read() -> None:
    """The last step of rules without memory of the gradient, read off the parameters."""
    for optimizer_of in (thalweg.RMSprop, thalweg.Adagrad, torch.optim.RMSprop, torch.optim.Adagrad):
        model, loss_fn = problem()
        optimizer = optimizer_of(model.parameters(), lr=1e-3)
        trained(model, loss_fn, optimizer)
        before = joined(model.parameters()).detach().clone()
        trained(model, loss_fn, optimizer, 1)
        moved = (before - joined(model.parameters()).detach()) / 1e-3
        g = joined(p.grad for p in model.parameters())
        scale = preconditioned(hessian(loss_fn, model), optimizer).scale
        torch.testing.assert_close(moved, g * scale**2, rtol=1e-9, atol=1e-12)


def test_of_gradient_descent_it_is_the_operator() -> None:
    model, loss_fn = problem()
    H = hessian(loss_fn, model)
    for optimizer in (torch.optim.SGD(model.parameters()), thalweg.SGD(model.parameters(), momentum=0.9)):
        torch.testing.assert_close(dense(preconditioned(H, optimizer)), dense(H), rtol=0.0, atol=0.0)
    metric = preconditioned(H, optimizer)
    before = H.cost.products
    metric.matvec(torch.ones(H.shape[0]))
    assert metric.cost is H.cost
    assert H.cost.products == before + 1
    assert metric.shape == H.shape


@pytest.mark.parametrize("package", [thalweg, torch.optim], ids=["thalweg", "torch"])
def test_state_of_bfloat16_parameters_is_widened(package: Any) -> None:
    model, loss_fn = problem(torch.bfloat16)
    optimizer = package.Adam(model.parameters(), lr=1e-2)
    trained(model, loss_fn, optimizer)
    metric = preconditioned(hessian(loss_fn, model), optimizer)
    assert metric.scale.dtype == torch.float32
    P = joined(
        root({n: s.float() for n, s in optimizer.state[p].items()}, optimizer.defaults) for p in model.parameters()
    )
    torch.testing.assert_close(metric.scale, P.rsqrt(), rtol=1e-5, atol=0.0)


def test_groups_of_different_thresholds_make_one_ratio() -> None:
    model, loss_fn = problem()
    first, last = model[0], model[2]  # pyright: ignore[reportIndexIssue]
    groups = [
        {"params": first.parameters(), "optimizer": "adamw", "lr": 1e-2},
        {"params": last.parameters(), "optimizer": "sgd", "lr": 0.3, "momentum": 0.5},
    ]
    optimizer = thalweg.Mixed(groups)
    trained(model, loss_fn, optimizer)
    H = hessian(loss_fn, model)
    found = sharpness_ratio(H, optimizer, tol=1e-9)
    adam, sgd = stability_threshold(optimizer)
    assert found.thresholds == (adam, sgd) == (pytest.approx(3800), pytest.approx(10))
    bound = joined(torch.full_like(p, x) for m, x in ((first, adam), (last, sgd)) for p in m.parameters())
    P = preconditioned(H, optimizer).scale ** -2
    symmetric = dense(H) / (P * bound).sqrt() / (P * bound).sqrt()[:, None]
    values, vectors = torch.linalg.eigh(symmetric)
    assert found.ratio == pytest.approx(values[-1].item(), rel=1e-8)
    d = vectors[:, -1] / (P * bound).sqrt()  # the direction in the parameters
    assert found.sharpness == pytest.approx((d @ dense(H) @ d / (d @ (P * d))).item(), rel=1e-6)
    assert found.ratio == pytest.approx(found.sharpness / found.threshold)
    assert found.residual <= 1e-8
    assert found.gradient_equivalents == 2 * found.products
    again = sharpness_ratio(H, optimizer, start=found)
    assert again.ratio == pytest.approx(found.ratio, rel=1e-2)


def test_without_a_learning_rate_nothing_is_unstable() -> None:
    model, loss_fn = problem()
    H = hessian(loss_fn, model)
    found = sharpness_ratio(H, torch.optim.SGD(model.parameters(), lr=0.0), tol=1e-6)
    assert (found.ratio, found.threshold) == (0.0, math.inf)
    assert found.sharpness == pytest.approx(torch.linalg.eigvalsh(dense(H))[-1].item(), rel=1e-8)
    one = thalweg.SGD([{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters(), "lr": 0.1}])  # pyright: ignore[reportIndexIssue]
    block = dense(H)[25:, 25:]
    assert sharpness_ratio(H, one, tol=1e-6).ratio == pytest.approx(torch.linalg.eigvalsh(block)[-1].item() / 20)


def ratios(rank: int = 0, *, shards: bool = True) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for make in (thalweg.Adam, thalweg.MARS, torch.optim.AdamW):
        model, loss_fn = problem()
        if shards:
            fully_shard(model)
        optimizer = make(model.parameters(), lr=1e-2)
        trained(model, loss_fn, optimizer)
        ratio = sharpness_ratio(hessian(loss_fn, model), optimizer, tol=1e-8)
        found.append((ratio.ratio, ratio.sharpness))
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_shards_have_the_ratios_of_one_process() -> None:
    expected = ratios(shards=False)
    for found in in_two_processes(ratios):
        for ours, theirs in zip(found, expected, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("adamw", dict(normalize=1.0), "AdamW: .*: normalize=1.0 changes its steps .*; turn normalize off"),
        ("saveus", {}, "SAVEUS: .*centralize=0.5 changes"),
        ("dope", dict(BOLD, eps_floor=1e-9), "DOPE: .*eps_floor=1e-09"),
        ("dope", dict(BOLD, variant="equations"), "DOPE: .*variant='equations' declares nothing diagonal"),
        ("mars", dict(variant="lion"), "MARS: .*'lion' declares"),
        ("muon", {}, "Muon: .*; take the eigenvalues of the operator itself"),
        ("lbfgs", {}, "LBFGS: .*B is not diagonal"),
        ("newton_cg", {}, "NewtonCG: .*B is not diagonal"),
        ("adam", {}, r"Adam: parameter 0 of the operator, shape \(2, 2\), has made no step"),
    ],
)
def test_what_cannot_be_read_is_an_error(name: str, kwargs: dict[str, Any], message: str) -> None:
    optimizer = made(name, **kwargs)
    x = optimizer.param_groups[0]["params"][0]
    H = hessian(lambda: (x**4).sum(), [x])
    for of in (preconditioned, sharpness_ratio):
        with pytest.raises(ValueError, match=message):
            of(H, optimizer)
    assert not optimizer.state.get(x)
    assert x.grad is None


def test_parameters_of_others_and_a_p_of_zero_are_errors() -> None:
    x, y = (torch.ones(2, requires_grad=True) for _ in range(2))
    H = hessian(lambda: (x * y).sum() ** 2, [x, y])
    with pytest.raises(ValueError, match=r"does not have parameter 1 of the operator, shape \(2,\); restrict"):
        preconditioned(H, torch.optim.SGD([x]))
    optimizer = thalweg.Adam([x, y], eps=0.0)
    x.grad, y.grad = torch.ones(2), torch.zeros(2)
    before = hessian(lambda: (x * x).sum() + (y * y).sum(), [x, y])
    optimizer.step()
    with pytest.raises(ValueError, match=r"P of parameter 1 .* not positive and finite"):
        preconditioned(before, optimizer)


def test_parameters_that_never_had_a_gradient_stay_where_they_are() -> None:
    x, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = thalweg.Adam([x, unused])
    x.grad = torch.ones(2)
    optimizer.step()
    both = sharpness_ratio(hessian(lambda: x.pow(4).sum(), [x, unused]), optimizer, tol=1e-8)
    alone = sharpness_ratio(hessian(lambda: x.pow(4).sum(), [x]), optimizer, tol=1e-8)
    assert both.ratio == pytest.approx(alone.ratio)


# Mini-batches.


def test_batch_sharpness_is_the_mean_of_rayleigh_quotients() -> None:
    torch.manual_seed(0)
    A = torch.randn(6, 3)
    x = torch.randn(3, requires_grad=True)
    batches = list(A.split(2))
    found = batch_sharpness(lambda rows: ((rows @ x) ** 2).sum(), iter(batches), (p for p in (x,)))
    quotients: list[Tensor] = []
    for rows in batches:
        H = 2 * rows.T @ rows
        g = H @ x.detach()
        quotients.append(g @ H @ g / (g @ g))
    expected = torch.stack(quotients)
    torch.testing.assert_close(torch.tensor(found.quotients), expected)
    assert found.mean == pytest.approx(expected.mean().item())
    assert found.standard_error == pytest.approx((expected.std() / 3**0.5).item())
    assert found.gradient_equivalents == Fraction(9)
    assert x.grad is None
    assert math.isnan(batch_sharpness(lambda rows: ((rows @ x) ** 2).sum(), [A], [x]).standard_error)


def test_batches_without_a_gradient_are_named() -> None:
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="batches is empty"):
        batch_sharpness(lambda s: (x * s).sum(), list[float](), [x])
    for scale in (0.0, math.nan):
        with pytest.raises(ValueError, match="batch 1 has a gradient of squared norm"):
            batch_sharpness(lambda s: ((x * s) ** 2).sum(), [1.0, scale], [x])
