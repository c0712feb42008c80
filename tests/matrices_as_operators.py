"""Operators whose matrix is known: what the tests of spectra compare with."""

from __future__ import annotations

import torch
from torch import Tensor

from thalweg.curvature import Cost, Operator
from thalweg.curvature.space import Space


class Matrix(Operator):
    """A symmetric matrix as an operator."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.cost = matrix, Cost()
        self.space = Space.flat(len(matrix), matrix.dtype)

    def product(self, v: Tensor) -> Tensor:
        self.cost.products += 1
        return self.matrix @ v


def of_eigenvalues(values: Tensor, seed: int = 0) -> Matrix:
    """A matrix with these eigenvalues and random eigenvectors."""
    g = torch.Generator().manual_seed(seed)
    Q: Tensor = torch.linalg.qr(torch.randn(len(values), len(values), generator=g, dtype=values.dtype))[0]
    return Matrix((Q * values) @ Q.T)


def descending(matrix: Tensor) -> Tensor:
    """The eigenvalues of a dense matrix, the largest first."""
    return torch.linalg.eigvalsh(matrix).flip(0)
