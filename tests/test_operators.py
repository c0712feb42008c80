"""Products with Hessian and Gauss–Newton matrix, against the dense matrices that torch.autograd.functional forms."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from thalweg.curvature import Cost, Operator, gauss_newton, hessian, network_output
from thalweg.curvature.space import joined, split

Loss = Callable[[Tensor, Tensor], Tensor]
MATRICES = (hessian, gauss_newton)


def dense(operator: Operator) -> Tensor:
    return torch.stack([operator.matvec(row) for row in torch.eye(operator.shape[0])], 1)


def network(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs))


def outputs_at(model: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The network's outputs as a function of its parameters in one vector."""
    names, params = zip(*model.named_parameters(), strict=True)
    return lambda v: functional_call(model, dict(zip(names, split(v, params), strict=True)), (x,))


def true_hessian(function: Callable[..., Tensor], at: Tensor) -> Tensor:
    return torch.autograd.functional.hessian(function, at)  # pyright: ignore[reportReturnType]


def true_gauss_newton(outputs: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """JᵀHJ, each factor formed."""
    jacobian = torch.autograd.functional.jacobian(lambda v: outputs(v).flatten(), at)
    z = outputs(at).detach()
    by_outputs = true_hessian(lambda flat: loss(flat.view_as(z)), z.flatten())
    return jacobian.T @ by_outputs @ jacobian  # pyright: ignore[reportAttributeAccessIssue, reportOperatorIssue]


def nll(z: Tensor, y: Tensor) -> Tensor:
    return F.nll_loss(z.log_softmax(-1), y)


def marked(z: Tensor, y: Tensor) -> Tensor:
    """Written by hand; the mark also keeps the cross-entropy inside from being taken for the boundary."""
    z = network_output(z)
    return F.cross_entropy(z.reshape(-1, 3), y) + 0.1 * z.pow(4).mean()


x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
classes = torch.tensor([0, 2, 1, 1, 0, 2])
reals = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
LOSSES: dict[str, tuple[Loss, Tensor]] = {
    "cross_entropy": (F.cross_entropy, classes),
    "smoothed, summed": (nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum"), classes),
    "nll_loss": (nll, classes),
    "nn.NLLLoss": (lambda z, y: nn.NLLLoss()(nn.LogSoftmax(-1)(z), y), classes),
    "mse_loss": (F.mse_loss, reals),
    "target first": (lambda z, y: F.mse_loss(y, z), reals),
    "by keywords": (lambda z, y: F.mse_loss(input=z, target=y), reals),
    "huber_loss": (F.huber_loss, reals),
    "binary": (F.binary_cross_entropy_with_logits, reals.sigmoid()),
    "poisson": (F.poisson_nll_loss, reals.exp()),
    "scaled": (lambda z, y: 3 * F.mse_loss(z, y) ** 2, reals),
    "marked": (marked, classes),
}


@pytest.mark.parametrize("name", LOSSES)
def test_products_are_those_of_the_dense_matrices(name: str) -> None:
    model, (loss, y) = network(), LOSSES[name]
    params = list(model.parameters())
    outputs, at = outputs_at(model, x), joined(params).detach()
    H, G = (make(lambda: loss(model(x), y), params) for make in MATRICES)
    gradient = torch.autograd.functional.jacobian(lambda v: loss(outputs(v), y), at)
    torch.testing.assert_close(dense(H), true_hessian(lambda v: loss(outputs(v), y), at), rtol=1e-11, atol=1e-12)
    expected = true_gauss_newton(outputs, lambda z: loss(z, y), at)
    torch.testing.assert_close(dense(G), expected, rtol=1e-11, atol=1e-12)
    for operator in (H, G):
        assert operator.shape == (43, 43)
        torch.testing.assert_close(operator.gradient, gradient, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(operator.loss, loss(model(x), y).detach())
        assert not operator.loss.requires_grad
        assert not operator.gradient.requires_grad


def test_gauss_newton_of_a_linear_model_is_its_hessian_and_of_any_is_semidefinite() -> None:
    def both(model: nn.Module) -> list[Tensor]:
        return [dense(make(lambda: F.cross_entropy(model(x), classes), model.parameters())) for make in MATRICES]

    torch.testing.assert_close(*both(nn.Linear(4, 3)))
    H, G = (torch.linalg.eigvalsh(matrix)[0].item() for matrix in both(network()))
    assert H < -1e-3
    assert G > -1e-14


def test_losses_of_several_outputs_add_up() -> None:
    one, two = network(), nn.Linear(4, 3)
    params = [*one.parameters(), *two.parameters()]
    both = gauss_newton(lambda: F.cross_entropy(one(x), classes) + 2 * F.mse_loss(two(x), reals), params)
    first = gauss_newton(lambda: F.cross_entropy(one(x), classes), params)
    second = gauss_newton(lambda: F.mse_loss(two(x), reals), params)
    torch.testing.assert_close(dense(both), dense(first) + 2 * dense(second))


def test_a_penalty_is_in_the_gradient_and_the_hessian_but_not_in_gauss_newton() -> None:
    model = network()
    params = list(model.parameters())

    def penalized() -> Tensor:
        return F.cross_entropy(model(x), classes) + sum(p.square().sum() for p in params)

    plain = gauss_newton(lambda: F.cross_entropy(model(x), classes), params)
    G = gauss_newton(penalized, params)
    torch.testing.assert_close(G.gradient, plain.gradient + 2 * joined(params).detach())
    torch.testing.assert_close(dense(G), dense(plain))
    H = hessian(lambda: F.cross_entropy(model(x), classes), params)
    torch.testing.assert_close(dense(hessian(penalized, params)), dense(H) + 2 * torch.eye(43))


class Attention(nn.Module):
    """One head; fused, or written out."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.qkv = fused, nn.Linear(4, 9)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.view(1, 1, 6, 4)).chunk(3, -1)
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v).view(6, 3)
        return ((q @ k.transpose(-1, -2) / 3**0.5).softmax(-1) @ v).view(6, 3)


def test_attention_has_products_though_its_fused_kernel_has_no_second_derivative() -> None:
    fused, plain = Attention(True), Attention(False)
    plain.load_state_dict(fused.state_dict())
    for make in MATRICES:
        a = make(lambda: F.cross_entropy(fused(x), classes), fused.parameters())
        b = make(lambda: F.cross_entropy(plain(x), classes), plain.parameters())
        torch.testing.assert_close(dense(a), dense(b))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)),
        lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.GELU(), nn.LayerNorm(3)),
        Recurrent,
    ],
    ids=["convolution", "normalization", "recurrence"],
)
def test_products_through_other_layers(make: Callable[[], nn.Module]) -> None:
    """Against central differences of the gradient."""
    torch.manual_seed(0)
    model = make()
    params = list(model.parameters())
    start = [p.detach().clone() for p in params]
    v, step = torch.linspace(-1, 1, joined(params).numel()), 1e-6
    ends: list[Tensor] = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, a, part in zip(params, start, split(v, params), strict=True):
                p.copy_(a + sign * step * part)
        ends.append(joined(torch.autograd.grad(F.cross_entropy(model(x), classes), params)))
    with torch.no_grad():
        for p, a in zip(params, start, strict=True):
            p.copy_(a)
    H = hessian(lambda: F.cross_entropy(model(x), classes), params)
    torch.testing.assert_close(H.matvec(v), (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-7)
    G = gauss_newton(lambda: F.cross_entropy(model(x), classes), params)
    assert v @ G.matvec(v) >= 0


@given(st.lists(st.floats(-3, 3), min_size=43, max_size=43), st.floats(-2, 2))
@settings(max_examples=20, deadline=None)
def test_matrices_are_linear_and_symmetric(values: list[float], factor: float) -> None:
    model = network()
    v, w = torch.tensor(values), torch.linspace(-1, 1, 43)
    for make in MATRICES:
        B = make(lambda: F.cross_entropy(model(x), classes), model.parameters())
        torch.testing.assert_close(v @ B.matvec(w), w @ B.matvec(v))
        torch.testing.assert_close(B.matvec(factor * v + w), factor * B.matvec(v) + B.matvec(w))


def test_parameters_without_influence_have_zero_rows() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    H = hessian(lambda: used.pow(3).sum(), [unused, used])
    assert dense(H).equal(torch.diag(torch.tensor([0.0, 0, 0, 6, 6])))
    assert dense(hessian(lambda: 2 * used.sum(), [used])).equal(torch.zeros(2, 2))
    G = gauss_newton(lambda: F.l1_loss(used, torch.zeros(2)), [used, unused])
    assert dense(G).equal(torch.zeros(5, 5))


def test_gradients_are_left_alone() -> None:
    p = torch.ones(2, requires_grad=True)
    p.grad = torch.full((2,), 7.0)
    hessian(lambda: p.square().sum(), [p]).matvec(torch.ones(2))
    assert p.grad.equal(torch.full((2,), 7.0))


def closure(p: Tensor) -> Tensor:
    p.grad = None
    loss = p.square().sum()
    loss.backward()
    return loss


P = torch.ones(2, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("loss_fn", "params", "error", "message"),
    [
        (lambda: P.sum(), [], ValueError, "params is empty"),
        (lambda: P.sum(), [P, torch.ones(3)], ValueError, r"params\[1\], shape \(3,\)"),
        (lambda: P.sum().item(), [P], TypeError, "returned float"),
        (lambda: P, [P], ValueError, r"returned shape \(2,\)"),
        (lambda: P.sum().detach(), [P], ValueError, "without a graph"),
        (lambda: closure(P), [P], ValueError, "loss_fn wrote gradients"),
    ],
)
def test_what_is_refused(loss_fn: Any, params: list[Tensor], error: type[Exception], message: str) -> None:
    for grad in (None, torch.zeros(2)):
        P.grad = grad
        with pytest.raises(error, match=message):
            hessian(loss_fn, params)


def test_a_loss_written_by_hand_is_asked_to_mark_its_outputs() -> None:
    model = network()
    with pytest.raises(ValueError, match=r"network_output\(z\)"):
        gauss_newton(lambda: (model(x) - reals).square().mean(), model.parameters())
    by_hand = gauss_newton(lambda: (network_output(model(x)) - reals).square().mean(), model.parameters())
    by_torch = gauss_newton(lambda: F.mse_loss(model(x), reals), model.parameters())
    torch.testing.assert_close(dense(by_hand), dense(by_torch))
    assert network_output(reals) is reals


def test_outputs_that_are_computed_from_another_are_refused_until_one_is_marked() -> None:
    model = network()

    def loss(z: Tensor) -> Tensor:
        return F.mse_loss(z, reals) + F.cross_entropy(z.view(2, 3, 3).flatten(0, 1), classes)

    with pytest.raises(ValueError, match="computed from another"):
        gauss_newton(lambda: loss(model(x)), model.parameters())
    G = gauss_newton(lambda: loss(network_output(model(x))), model.parameters())
    one = gauss_newton(lambda: F.mse_loss(model(x), reals), model.parameters())
    two = gauss_newton(lambda: F.cross_entropy(model(x), classes), model.parameters())
    torch.testing.assert_close(dense(G), dense(one) + dense(two))


def test_an_operator_whose_parameters_have_changed_says_so() -> None:
    p = torch.ones(2, requires_grad=True)
    H = hessian(lambda: p.pow(3).sum(), [p])
    with torch.no_grad():
        p.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        H.matvec(torch.ones(2))


def test_repr_and_cost() -> None:
    p = torch.ones(2, requires_grad=True)
    assert repr(hessian(lambda: p.sum(), [p])) == "Hessian(shape=(2, 2), loss=2)"
    assert Cost(values=2, gradients=1, products=3).gradient_equivalents == Fraction(23, 3)
