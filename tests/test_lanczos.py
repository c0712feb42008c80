"""Eigenpairs by Lanczos, against dense eigenvalues, closed forms, scipy and curvlinops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices_as_operators import Matrix, descending, of_eigenvalues
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from torch import Tensor, nn

from thalweg.curvature import Eigenpairs, eigenpairs, gauss_newton, hessian
from thalweg.curvature.krylov import Krylov
from thalweg.curvature.operators import LossOperator

WHICH: dict[str, Callable[[Tensor], Tensor]] = {
    "largest": lambda values: values.sort(descending=True)[0],
    "smallest": lambda values: values.sort()[0],
    "magnitude": lambda values: values[values.abs().argsort(descending=True)],
}


def require_within_bounds(found: Eigenpairs, values: Tensor, which: str = "largest") -> None:
    """Each eigenvalue within its bound, which is small if it says so; vectors orthonormal."""
    expected = WHICH[which](values)[: len(found.eigenvalues)]
    rounding = 1e-12 * values.abs().max()
    assert ((found.eigenvalues - expected).abs() <= found.residuals + rounding).all()
    k = len(expected)
    torch.testing.assert_close(found.eigenvectors.T @ found.eigenvectors, torch.eye(k), rtol=0, atol=1e-10)


def digits(rows: int) -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(cast("Any", pixels))
    return ((x - x.mean()) / x.std())[:rows], torch.tensor(cast("Any", labels))[:rows]


def mlp(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, hidden), nn.Tanh(), nn.Linear(hidden, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)
    )


def trained(model: nn.Module, steps: int, rows: int = 100) -> LossOperator:
    """The Hessian on digits after some steps of Adam."""
    x, y = digits(rows)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return hessian(lambda: F.cross_entropy(model(x), y), model)


def dense(operator: LossOperator) -> Tensor:
    """All products at once."""
    basis = torch.eye(operator.shape[0]).split([p.numel() for p in operator.source.leaves], 1)
    vectors = [part.reshape(-1, *p.shape) for part, p in zip(basis, operator.source.leaves, strict=True)]
    pieces: Any = torch.autograd.grad(
        operator.slopes, operator.source.leaves, vectors, is_grads_batched=True, retain_graph=True
    )
    H = torch.cat([piece.flatten(1) for piece in pieces], 1)
    return (H + H.T) / 2


# Networks


@pytest.mark.parametrize("steps", [0, 60])
@pytest.mark.parametrize("make", [lambda: mlp(8), cnn], ids=["mlp", "cnn"])
def test_five_eigenvalues_of_a_network_are_within_their_bounds(make: Callable[[], nn.Module], steps: int) -> None:
    torch.manual_seed(steps)
    matrix = dense(trained(make(), steps))
    values, A = descending(matrix), Matrix(matrix)
    for seed in range(15):
        found = eigenpairs(A, 5, seed=seed)
        require_within_bounds(found, values)
        assert found.converged
        assert (found.residuals <= 1e-2 * found.eigenvalues[0]).all()
        assert found.products <= 80
        assert found.gradient_equivalents == 2 * found.products
    for which in WHICH:
        require_within_bounds(eigenpairs(A, 3, which=cast("Any", which), tol=1e-4), values, which)


@pytest.mark.parametrize("make", [lambda: mlp(8), cnn], ids=["mlp", "cnn"])
def test_ten_products_give_the_largest_eigenvalue_to_a_percent(make: Callable[[], nn.Module]) -> None:
    """Almost always: one start in fifty is so nearly orthogonal to the eigenvector that it takes a few more."""
    errors: list[float] = []
    for steps in (0, 60):
        for seed in range(5):
            torch.manual_seed(seed)
            H = trained(make(), steps)
            exact = eigenpairs(H, 3, tol=1e-6).eigenvalues[0]
            errors += [
                1 - (eigenpairs(H, tol=1e-6, max_products=10, seed=s).eigenvalues[0] / exact).item() for s in range(2)
            ]
    assert min(errors) > -1e-10
    assert sorted(errors)[-3] < 0.01


@pytest.mark.slow
def test_five_eigenvalues_of_ten_thousand_parameters() -> None:
    torch.manual_seed(0)
    H = trained(mlp(132), 30)
    assert H.shape[0] == 9910
    matrix = torch.cat([H.matvec(row)[None] for row in torch.eye(9910)])
    values = descending((matrix + matrix.T) / 2)
    for seed in range(5):
        require_within_bounds(eigenpairs(H, 5, seed=seed), values)


# The Krylov space


def require_identities(krylov: Krylov, A: Tensor) -> None:
    """``A V = V T + P R``, VᵀV = I."""
    V, P = krylov.V[: krylov.multiplied].T, krylov.V[krylov.multiplied :].T
    torch.testing.assert_close(A @ V, V @ krylov.T + P @ krylov.R, rtol=0, atol=1e-10)
    torch.testing.assert_close(krylov.V @ krylov.V.T, torch.eye(krylov.count), rtol=0, atol=1e-12)


def test_the_identity_of_lanczos_holds_at_every_stage() -> None:
    """From several vectors, through vectors that join and are followed up, and thick restarts."""
    A = of_eigenvalues(torch.linspace(-1, 3, 60))
    krylov, generator = Krylov(A, 16), torch.Generator().manual_seed(0)
    for _ in range(2):
        krylov.add_random(generator)
    for stage in range(40):
        krylov.step(newest=stage % 3 == 0)
        require_identities(krylov, A.matrix)
        theta, residuals, vectors = krylov.ritz()
        x = krylov.combined(vectors).T
        torch.testing.assert_close((A.matrix @ x - x * theta).norm(dim=0), residuals, rtol=0, atol=1e-10)
        assert theta.max() <= 3 + 1e-12
        if krylov.count == 16:
            keep = theta.argsort(descending=True)[:7]
            krylov.restart(vectors[:, keep], theta[keep])
            require_identities(krylov, A.matrix)
        if stage == 10:
            krylov.add_random(generator)
            require_identities(krylov, A.matrix)
    assert krylov.products == 40


def test_vectors_stay_orthogonal_in_float32() -> None:
    A = of_eigenvalues(torch.cat([torch.tensor([100.0, 99, 50]), torch.linspace(0, 1, 197)]).float())
    krylov = Krylov(A, 80)
    krylov.add_random(torch.Generator().manual_seed(0))
    for _ in range(79):
        krylov.step()
    V = krylov.V.double()
    assert (V @ V.T - torch.eye(len(V))).abs().max() < 1e-6
    found = eigenpairs(A, 5, tol=1e-3)
    assert ((found.eigenvalues - descending(A.matrix.double())[:5]).abs() <= found.residuals).all()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_few_vectors_and_many_restarts_find_the_same(k: int) -> None:
    A = of_eigenvalues(torch.cat([torch.tensor([5.0, 4, 3.5, 3.1, 2.5]), torch.linspace(-1, 1, 195)]))
    for seed in range(5):
        few, many = (eigenpairs(A, k, tol=1e-7, capacity=c, seed=seed, max_products=900) for c in (2 * k + 2 + 4, 200))
        assert few.converged
        torch.testing.assert_close(few.eigenvalues, many.eigenvalues, rtol=1e-6, atol=0)
        require_within_bounds(few, descending(A.matrix))
    least = eigenpairs(A, k, capacity=2 * k + 2, max_products=400)
    assert (least.eigenvalues <= descending(A.matrix)[:k] + 1e-10).all()


def test_the_basis_can_be_kept_in_bfloat16_or_elsewhere() -> None:
    A = of_eigenvalues(torch.cat([torch.tensor([5.0, 4, 3]), torch.linspace(-1, 1, 197)]).float())
    full, elsewhere = (eigenpairs(A, 3, device=device) for device in (None, torch.device("cpu")))
    torch.testing.assert_close(full.eigenvalues, elsewhere.eigenvalues)
    for capacity in (None, 14):
        short = eigenpairs(A, 3, basis=torch.bfloat16, tol=0.03, capacity=capacity)
        torch.testing.assert_close(short.eigenvalues, torch.tensor([5.0, 4, 3]), rtol=0, atol=0.03)
        assert short.eigenvectors.dtype == torch.float32


# Degenerate spectra


def test_linear_regression_has_every_eigenvalue_ten_times() -> None:
    """H = I ⊗ XᵀX · 2/(10 N) for the mean squared error of ten outputs."""
    torch.manual_seed(0)
    x, y, model = torch.randn(40, 12), torch.randn(40, 10), nn.Linear(12, 10, bias=False)
    values = descending(x.T @ x / 200).repeat_interleave(10)
    for make in (hessian, gauss_newton):
        H = make(lambda: F.mse_loss(model(x), y), model)
        for seed in range(4):
            require_within_bounds(eigenpairs(H, 5, seed=seed, tol=1e-3), values)
        require_within_bounds(eigenpairs(H, 12, tol=1e-6, max_products=1000, capacity=120), values)


def test_logistic_regression() -> None:
    """H = Xᵀ diag(p (1 − p)) X / N."""
    torch.manual_seed(0)
    x, y, model = torch.randn(50, 8), torch.randint(2, (50, 1)).double(), nn.Linear(8, 1, bias=False)
    p = model(x).detach().sigmoid()
    H = hessian(lambda: F.binary_cross_entropy_with_logits(model(x), y), model)
    found = eigenpairs(H, 3, tol=1e-10)
    torch.testing.assert_close(found.eigenvalues, descending((x * p * (1 - p)).T @ x / 50)[:3])


@pytest.mark.parametrize("k", [1, 2, 5, 30])
@pytest.mark.parametrize(
    "spectrum",
    [
        torch.zeros(30),
        torch.ones(30),
        -torch.ones(30),
        torch.cat([torch.zeros(29), torch.tensor([3.0])]),
        torch.cat([torch.full((15,), -2.0), torch.full((15,), 2.0)]),
        torch.cat([torch.full((6,), 2.0), torch.full((24,), 1.999)]),
        1e-30 * torch.arange(30.0),
        1e30 * torch.arange(-10.0, 20),
    ],
    ids=["zero", "identity", "minus", "rank one", "two", "near", "tiny", "huge"],
)
def test_degenerate_spectra(spectrum: Tensor, k: int) -> None:
    values = spectrum.double()
    A = of_eigenvalues(values) if values.unique().numel() > 1 else Matrix(values.diag())
    for which in WHICH:
        for seed in range(3):
            found = eigenpairs(A, k, seed=seed, which=cast("Any", which))
            assert len(found.eigenvalues) == k
            assert found.converged
            if which != "magnitude":  # ±2 are one magnitude
                require_within_bounds(found, values, which)


def test_one_number() -> None:
    found = eigenpairs(Matrix(torch.tensor([[-7.0]])))
    assert found.eigenvalues.tolist() == [-7.0]
    assert found.products == 1


@given(st.integers(1, 24), st.integers(0, 10_000), st.integers(0, 24), st.sampled_from(list(WHICH)))
@settings(max_examples=150, deadline=None)
def test_small_random_matrices(n: int, seed: int, repeated: int, which: Any) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, generator=generator)
    values[: min(repeated, n)] = values[0].item()
    A = of_eigenvalues(values, seed)
    k = 1 + seed % n
    require_within_bounds(eigenpairs(A, k, which=which, seed=seed), values, which)


# Other libraries


def test_agreement_with_scipy() -> None:
    torch.manual_seed(0)
    H = trained(mlp(8), 20)
    scipy_operator = cast("Any", LinearOperator)(
        H.shape, matvec=lambda v: H.matvec(torch.tensor(v).reshape(-1)).numpy(), dtype=np.float64
    )
    for which, theirs in {"largest": "LA", "smallest": "SA", "magnitude": "LM"}.items():
        expected = torch.tensor(eigsh(scipy_operator, 4, which=theirs, return_eigenvectors=False))
        found = eigenpairs(H, 4, which=cast("Any", which), tol=1e-8)
        torch.testing.assert_close(found.eigenvalues, WHICH[which](expected), rtol=1e-7, atol=1e-9)


def test_agreement_with_curvlinops() -> None:
    curvlinops = pytest.importorskip("curvlinops")
    torch.manual_seed(0)
    model, (x, y) = mlp(8), digits(80)
    params = list(model.parameters())
    for ours, theirs in ((hessian, curvlinops.HessianLinearOperator), (gauss_newton, curvlinops.GGNLinearOperator)):
        A = ours(lambda: F.cross_entropy(model(x), y), model)
        B = theirs(model, nn.CrossEntropyLoss(), params, [(x, y)])
        v = torch.randn(A.shape[0])
        torch.testing.assert_close(A.matvec(v), B @ v)
        expected = torch.tensor(eigsh(B.to_scipy(), 3, which="LA", return_eigenvectors=False))
        torch.testing.assert_close(eigenpairs(A, 3, tol=1e-8).eigenvalues, expected.sort(descending=True)[0])


# Starts


def test_a_warm_start_is_not_falsely_converged() -> None:
    """From the eigenpairs of a matrix whose largest eigenvectors are others."""
    values = torch.cat([torch.tensor([4.0, 3, 2.5]), torch.linspace(-1, 1, 97)])
    A, B = (of_eigenvalues(values, seed) for seed in (0, 1))
    for k in (1, 3):
        for seed in range(10):
            before = eigenpairs(B, k, seed=seed)
            require_within_bounds(eigenpairs(A, k, start=before, seed=seed), values)
            require_within_bounds(eigenpairs(A, k, start=before.eigenvectors[:, 0], seed=seed), values)


def test_a_warm_start_from_a_wrong_eigenvector_finds_the_largest() -> None:
    A = of_eigenvalues(torch.cat([torch.tensor([4.0, 3]), torch.linspace(-1, 1, 98)]))
    second = eigenpairs(A, 2, tol=1e-10).eigenvectors[:, 1]
    for seed in range(20):
        assert eigenpairs(A, start=second, seed=seed).eigenvalues[0] == pytest.approx(4, abs=0.04)


def test_a_warm_start_saves_products_where_little_changed() -> None:
    A = of_eigenvalues(torch.cat([torch.tensor([4.0, 3.6, 3]), torch.linspace(-1, 2.5, 197)]))
    cold = [eigenpairs(A, seed=seed) for seed in range(10)]
    warm = [eigenpairs(A, start=pairs, seed=50 + seed) for seed, pairs in enumerate(cold)]
    assert sum(pairs.products for pairs in warm) < sum(pairs.products for pairs in cold)


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    A, before = of_eigenvalues(torch.linspace(0, 1, 40)), torch.get_rng_state()
    one, same, other = (eigenpairs(A, seed=seed) for seed in (1, 1, 2))
    assert one.eigenvalues.equal(same.eigenvalues)
    assert not one.eigenvalues.equal(other.eigenvalues)
    assert torch.get_rng_state().equal(before)


def test_giving_up_is_told() -> None:
    A = of_eigenvalues(torch.linspace(0, 1, 300))
    found = eigenpairs(A, 3, tol=1e-9, max_products=6)
    assert (found.products, found.converged) == (6, False)
    assert found.eigenvalues.shape == found.residuals.shape == (3,)
    require_within_bounds(eigenpairs(A, 1, tol=1e-2), descending(A.matrix))


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"k of an operator of 9 dimensions=0 is out of range; allowed is 1 ≤ x ≤ 9"),
        ({"k": 10}, r"k of an operator of 9 dimensions=10 is out of range"),
        ({"which": "LA"}, "which='LA' is unknown"),
        ({"tol": -1.0}, "tol=-1.0 is out of range"),
        ({"tol": 1.0}, "tol=1.0 is out of range"),
        ({"capacity": 3}, "capacity=3 is out of range; allowed is 4 ≤ x ≤ 9"),
        ({"capacity": 10}, "capacity=10 is out of range"),
        ({"max_products": 0}, "max_products=0"),
        ({"k": 3, "max_products": 2}, "max_products=2 is out of range; allowed is 3"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    A = Matrix(torch.eye(9))
    with pytest.raises(ValueError, match=message):
        eigenpairs(A, **arguments)
    assert A.cost.products == 0


def test_products_that_are_not_finite_are_named() -> None:
    for wrong in (math.nan, math.inf):
        with pytest.raises(FloatingPointError, match=r"product 1 with Matrix\(shape=\(3, 3\)\) is not finite"):
            eigenpairs(Matrix(torch.full((3, 3), wrong)))
