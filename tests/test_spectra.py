"""Density, trace, diagonal and the spectra of layers, against dense matrices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices_as_operators import Matrix, descending, of_eigenvalues
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from thalweg.curvature import Restricted, density, diagonal, eigenpairs, hessian, layer_spectra, trace
from thalweg.curvature.hessian import Hessian


def network_hessian(seed: int = 0) -> Hessian:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 5))
    x, y = torch.randn(60, 12), torch.randint(5, (60,))
    return hessian(lambda: F.cross_entropy(model(x), y), model)


def dense(operator: Any) -> Tensor:
    return torch.stack([operator.matvec(row) for row in torch.eye(operator.shape[0])], 1)


def random_symmetric(n: int, seed: int) -> Tensor:
    A = torch.randn(n, n, generator=torch.Generator().manual_seed(seed))
    return A + A.T


# Density


def test_the_density_is_near_that_of_the_eigenvalues() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    x, y = torch.randn(100, 64), torch.randint(10, (100,))
    H = hessian(lambda: F.cross_entropy(model(x), y), model)
    values = torch.linalg.eigvalsh(dense(H))
    spent = H.cost.products
    found = density(H, vectors=10, steps=40)
    distance = wasserstein_distance(values.numpy(), found.nodes.numpy(), v_weights=found.weights.numpy())
    extent = (values[-1] - values[0]).item()
    assert distance < 8e-3 * extent
    assert abs(found.trace - values.sum()) < min(0.1 * values.sum(), 4 * found.trace_error)
    assert values[0] - 1e-9 <= found.smallest <= values[0] + 1e-3 * extent
    assert values[-1] - 1e-3 * extent <= found.largest <= values[-1] + 1e-9
    assert H.cost.products - spent == found.products == 400
    assert found.gradient_equivalents == 800


def test_all_steps_give_every_moment_of_the_start() -> None:
    """Gauss quadrature: Σ wᵢ θᵢʲ = zᵀAʲz/zᵀz, and a vector's own measure is exact once it spans everything."""
    A = Matrix(random_symmetric(12, 0))
    found = density(A, vectors=1, steps=12)
    z = A.space.random(torch.Generator().manual_seed(0), "rademacher")
    torch.testing.assert_close(found.nodes, torch.linalg.eigvalsh(A.matrix))
    for j in range(5):
        expected = z @ torch.linalg.matrix_power(A.matrix, j) @ z / 12
        torch.testing.assert_close(found.weights @ found.nodes**j, expected)
    assert math.isnan(found.trace_error)


def test_the_curve_is_a_density_of_the_given_width() -> None:
    found = density(Matrix(torch.diag(torch.tensor([1.0, 1, 1, 5]))), vectors=3, steps=4, width=0.1)
    assert found.width == 0.1
    torch.testing.assert_close(torch.trapezoid(found.values, found.grid).item(), 1.0, rtol=1e-2, atol=0)
    at_one = found.values[(found.grid - 1).abs().argmin()].item()
    assert at_one == pytest.approx(0.75 / (0.1 * math.sqrt(2 * math.pi)), rel=1e-2)


@pytest.mark.parametrize("factor", [0.0, 1.0, -3.0])
def test_the_density_of_a_multiple_of_the_identity_is_one_node(factor: float) -> None:
    found = density(Matrix(factor * torch.eye(20)), vectors=2, steps=5)
    torch.testing.assert_close(found.nodes, torch.full((2,), factor))
    assert (found.trace, found.products) == (pytest.approx(20 * factor), 2)
    assert found.values.isfinite().all()
    assert found.width > 0


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    A, before = Matrix(random_symmetric(15, 0)), torch.get_rng_state()
    one, same, other = (density(A, vectors=2, steps=5, seed=seed) for seed in (1, 1, 2))
    assert one.nodes.equal(same.nodes)
    assert not one.nodes.equal(other.nodes)
    assert torch.get_rng_state().equal(before)


# Trace and diagonal


@given(st.integers(2, 12), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_estimates_of_diagonal_matrices_are_exact(n: int, seed: int) -> None:
    d = torch.randn(n, generator=torch.Generator().manual_seed(seed))
    A = Matrix(d.diag())
    t, found = trace(A, products=2, seed=seed), diagonal(A, products=2, seed=seed)
    assert t.value == pytest.approx(d.sum().item(), abs=1e-12)
    assert t.standard_error == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(found.values, d)
    torch.testing.assert_close(found.standard_errors, torch.zeros(n))


@pytest.mark.parametrize("method", ["hutchinson", "hutch++"])
def test_the_trace_has_no_bias_and_its_error_is_as_told(method: Any) -> None:
    """The mean of many estimates; and how they scatter, against the standard errors they report."""
    A = Matrix(random_symmetric(30, 3))
    found = [trace(A, products=12, method=method, seed=seed) for seed in range(400)]
    values = torch.tensor([t.value for t in found])
    told = torch.tensor([t.standard_error for t in found]).square().mean().sqrt()
    assert abs(values.mean() - A.matrix.trace()) < 4 * values.std() / 20
    assert values.std() == pytest.approx(told.item(), rel=0.15)
    assert all((t.products, t.gradient_equivalents) == (12, 24.0) for t in found)


def test_the_variance_of_hutchinson_is_the_closed_form() -> None:
    """2 Σ_{i≠j} Aᵢⱼ² / samples."""
    A = Matrix(random_symmetric(20, 5))
    off = A.matrix - A.matrix.diagonal().diag()
    values = torch.tensor([trace(A, products=5, seed=seed).value for seed in range(1000)])
    assert values.var() == pytest.approx((2 * off.square().sum() / 5).item(), rel=0.2)


def test_hutch_plus_plus_is_better_where_few_eigenvalues_make_up_the_matrix() -> None:
    few = of_eigenvalues(torch.cat([torch.full((8,), 10.0), torch.full((92,), 0.01)]))
    errors = {
        method: torch.tensor([trace(few, products=30, method=method, seed=s).value for s in range(20)]).sub(80.92).abs()
        for method in ("hutchinson", "hutch++")
    }
    assert errors["hutch++"].mean() < 1e-2 * errors["hutchinson"].mean()


def test_hutch_plus_plus_is_exact_once_it_spans_everything_and_of_low_rank() -> None:
    A = Matrix(random_symmetric(6, 0))
    found = trace(A, products=30, method="hutch++")
    assert found.value == pytest.approx(A.matrix.trace().item())
    assert (found.standard_error, found.products) == (0.0, 12)
    low = of_eigenvalues(torch.tensor([3.0, 2.0] + [0.0] * 18))
    found = trace(low, products=12, method="hutch++")
    assert found.value == pytest.approx(5.0)
    assert found.standard_error < 1e-12
    assert trace(Matrix(torch.zeros(9, 9)), products=6, method="hutch++").value == 0


def test_the_diagonal_has_no_bias_and_its_errors_are_as_told() -> None:
    A = Matrix(random_symmetric(8, 4))
    found = diagonal(A, products=4000)
    off = A.matrix - A.matrix.diagonal().diag()
    torch.testing.assert_close(found.standard_errors, off.square().sum(1).div(4000).sqrt(), rtol=0.1, atol=0)
    assert ((found.values - A.matrix.diagonal()).abs() < 4 * found.standard_errors).all()
    assert (found.products, found.gradient_equivalents) == (4000, 8000.0)


def test_estimates_of_a_network() -> None:
    H = network_hessian()
    matrix = dense(H)
    found = diagonal(H, products=200)
    assert ((found.values - matrix.diagonal()).abs() <= 6 * found.standard_errors + 1e-12).all()
    for method in ("hutchinson", "hutch++"):
        t = trace(H, products=60, method=method)
        assert abs(t.value - matrix.trace()) < 4 * t.standard_error


# Layers


def test_a_restricted_operator_is_the_diagonal_block() -> None:
    H = network_hessian()
    matrix, spent = dense(H), H.cost.products
    second = Restricted(H, ["2.bias", "0.bias"])
    places = torch.cat([torch.arange(120, 130), torch.arange(180, 185)])
    torch.testing.assert_close(dense(second), matrix[places][:, places])
    assert second.shape == (15, 15)
    assert H.cost.products == spent + 15
    assert second.cost is H.cost
    torch.testing.assert_close(dense(Restricted(second, ["2.bias"])), matrix[180:, 180:])


def test_layers_are_modules_and_their_eigenvalues_those_of_the_blocks() -> None:
    H = network_hessian()
    matrix = dense(H)
    found = layer_spectra(H, k=3, tol=1e-4)
    assert list(found.blocks) == ["0", "2"]
    assert found.sizes == {"0": 130, "2": 55}
    for name, part in {"0": slice(0, 130), "2": slice(130, 185)}.items():
        pairs, exact = found.blocks[name], descending(matrix[part, part])[:3]
        assert ((pairs.eigenvalues - exact).abs() <= pairs.residuals).all()
        assert pairs.eigenvalues[0] <= eigenpairs(H, tol=1e-4).eigenvalues[0] + 1e-6
    assert found.products == sum(pairs.products for pairs in found.blocks.values())
    assert found.gradient_equivalents == 2 * found.products


def test_blocks_can_be_given_and_small_ones_give_all_they_have() -> None:
    bias, w = torch.ones(1, requires_grad=True), torch.ones(3, requires_grad=True)
    H = hessian(lambda: w.pow(3).sum() + bias.pow(2).sum(), [("bias", bias), ("w", w)])
    found = layer_spectra(H, k=2)
    assert list(found.blocks) == ["bias", "w"]
    torch.testing.assert_close(found.blocks["bias"].eigenvalues, torch.tensor([2.0]))
    torch.testing.assert_close(found.blocks["w"].eigenvalues, torch.tensor([6.0, 6.0]))
    all_of_it = layer_spectra(H, k=9, blocks={"all": ["bias", "w"]})
    torch.testing.assert_close(all_of_it.blocks["all"].eigenvalues, torch.tensor([6.0, 6.0, 6.0, 2.0]))
    lines = str(found).splitlines()
    assert lines == [
        "block  parameters  eigenvalues ± residual",
        f"bias            1  2 ± {found.blocks['bias'].residuals[0]:.1g}",
        f"w               3  {', '.join(f'6 ± {r:.1g}' for r in found.blocks['w'].residuals)}",
    ]


# What is refused


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda A: density(A, vectors=0), ValueError, "density: vectors=0 is out of range"),
        (lambda A: density(A, steps=0), ValueError, "density: steps=0"),
        (lambda A: density(A, points=1), ValueError, "density: points=1"),
        (lambda A: density(A, width=-1.0), ValueError, "density: width"),
        (lambda A: density(A, width=0.0), ValueError, "density: width"),
        (lambda A: trace(A, products=1), ValueError, "trace: products of method 'hutchinson'=1"),
        (lambda A: trace(A, products=5, method="hutch++"), ValueError, "trace: products of method 'hutch"),
        (lambda A: trace(A, method="exact"), ValueError, "trace: method='exact' is unknown"),
        (lambda A: diagonal(A, products=1), ValueError, "diagonal: products=1"),
        (lambda A: layer_spectra(A), TypeError, "not over named parameters"),
        (
            lambda A: layer_spectra(network_hessian(), blocks={"a": ["weight"]}),
            ValueError,
            "no parameter is named 'weight'",
        ),
        (lambda A: layer_spectra(network_hessian(), blocks={"a": []}), ValueError, "a block has no names"),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], message: str) -> None:
    A = Matrix(torch.eye(3))
    with pytest.raises(error, match=message):
        call(A)
    assert A.cost.products == 0


@pytest.mark.parametrize("estimate", [density, trace, diagonal])
def test_products_that_are_not_finite_are_named(estimate: Any) -> None:
    with pytest.raises(FloatingPointError, match=r"with Matrix\(shape=\(3, 3\)\) is not finite"):
        estimate(Matrix(torch.full((3, 3), math.nan)))
