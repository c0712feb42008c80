"""Parameters read as matrices, and the orthogonal factors of matrices, those of one shape found together.

A matrix has a row an output.  A factor is found by Newton–Schulz steps X ← aX + (bG + cG²)X, G = XXᵀ, which move every singular
value towards 1 and leave the singular vectors as they are: products of matrices only, which every device does best.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from thalweg.core.rule import Scalar
from thalweg.core.sharding import is_sharded, spread, whole
from thalweg.core.tensorlist import TensorList

Quintic = tuple[float, float, float]

_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
_CONVERGED = (1.875, -1.25, 0.375)


def quintic(steps: int) -> list[Quintic]:
    """The steepest polynomial at zero of those that end in 0.7 … 1.2, in every step.  K. Jordan et al. 2024, "Muon"."""
    return [(3.4445, -4.7750, 2.0315)] * steps


def polar_express(steps: int) -> list[Quintic]:
    """For each step the best polynomial after the steps before.  Amsel et al. 2025 (arXiv:2505.16932, Algorithm 1)."""
    # With a margin for rounding, as in the paper: singular values above 1 must not diverge; before the first step once more.
    margins = (1.01**2, *[1.01] * (len(_POLAR_EXPRESS) - 1))
    safe = [(a / s, b / s**3, c / s**5) for s, (a, b, c) in zip(margins, _POLAR_EXPRESS, strict=True)]
    return [*safe[:steps], *[_CONVERGED] * (steps - len(safe))]


COEFFICIENTS: dict[str, Callable[[int], list[Quintic]]] = {"quintic": quintic, "polar_express": polar_express}

ADJUST: dict[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: max(1.0, rows / columns) ** 0.5,
    "match_rms_adamw": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,
    "spectral": lambda rows, columns: (rows / columns) ** 0.5,
}
"""What an orthogonal factor is multiplied by, for its shape.

``original``: K. Jordan 2024.  ``match_rms_adamw``: Liu et al. 2025 (arXiv:2502.16982, eq. 4), steps of the size of AdamW's.
``spectral``: Bernstein 2025, learning rates that carry over to other widths.
"""


@dataclass(frozen=True)
class Layout:
    """How a parameter is read as matrices: a tensor with more than two dimensions is one of (outputs, all others)."""

    stacked: bool = False  # the first dimension counts matrices
    splits: tuple[int, ...] = ()  # outputs of the matrices that were fused into one
    transposed: bool = False  # kept as (inputs, outputs)

    def outputs(self, shape: Sequence[int]) -> int:
        """The rows, before ``splits``, of the matrices that a parameter of this shape is read as."""
        own = shape[1:] if self.stacked else shape
        return math.prod(own[1:]) if self.transposed else own[0]

    def views(self, x: Tensor) -> list[Tensor]:
        """Stacks (number, rows, columns), one for each of the ``splits``."""
        number, outputs = x.shape[:2] if self.stacked else (1, x.shape[0] if x.ndim else 1)
        x = x.reshape(number, outputs, -1)
        x = x.mT if self.transposed else x
        return list(torch.split(x, list(self.splits), dim=-2)) if self.splits else [x]


@dataclass(frozen=True)
class Iteration:
    """How the orthogonal factor of a matrix is found."""

    eps: Scalar  # added to ‖X‖
    coefficients: str = "quintic"
    steps: int = 5
    arithmetic: str = "float32"

    def __call__(self, x: Tensor) -> Tensor:
        """About UVᵀ for each matrix UΣVᵀ of a stack."""
        short = self.arithmetic == "bfloat16" or (self.arithmetic == "auto" and x.is_cuda and x.dtype != torch.float64)
        return newton_schulz(x.bfloat16() if short else x, COEFFICIENTS[self.coefficients](self.steps), self.eps)


def orthogonalized(x: Any, find: Iteration, adjust: str = "original", layout: Layout | None = None) -> Any:
    """For each matrix of a tensor, or of all tensors of a list, its orthogonal factor by what ``adjust`` says of its shape."""
    if is_sharded(x):
        return spread(orthogonalized(whole(x), find, adjust, layout), x)
    tensors: list[Tensor] = x.tensors if isinstance(x, TensorList) else [x]
    results = [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in tensors]
    alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for pair in zip(tensors, results, strict=True):
        for source, target in zip(*map((layout or Layout()).views, pair), strict=True):
            alike[source.shape[-2:]].append((source, target))
    for shape, pairs in alike.items():
        found = find(torch.cat([source for source, _ in pairs]))
        factors = torch.split(found, [len(source) for source, _ in pairs])
        for (_, target), factor in zip(pairs, factors, strict=True):
            target.copy_(factor).mul_(ADJUST[adjust](*shape))
    return TensorList(results) if isinstance(x, TensorList) else results[0]


def newton_schulz(x: Tensor, polynomials: Sequence[Quintic], eps: Scalar) -> Tensor:
    """About UVᵀ for each matrix of a stack (number, rows, columns)."""
    if x.shape[-2] > x.shape[-1]:
        return newton_schulz(x.mT, polynomials, eps).mT
    norm = cast(Tensor, torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True))
    x = x / (norm + eps)
    # On G alone a step is 8 rows³ multiplications instead of 4 rows²·columns + 2 rows³.  In bfloat16 G's rounding makes
    # eigenvalues below zero of small ones, which then grow twelvefold a step: measured in benchmarks/muon.md.
    on_gram = 2 * x.shape[-1] > 3 * x.shape[-2] and x.dtype != torch.bfloat16
    return (_by_gram if on_gram else _by_steps)(x, polynomials)


def _by_steps(x: Tensor, polynomials: Sequence[Quintic]) -> Tensor:
    for a, b, c in polynomials:
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram(x: Tensor, polynomials: Sequence[Quintic]) -> Tensor:
    """The same with all steps taken on G: X ← QX makes QGQ of it, and Q commutes with G."""
    gram, product = torch.bmm(x, x.mT), None
    for k, (a, b, c) in enumerate(polynomials, 1):
        q = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        q.diagonal(dim1=-2, dim2=-1).add_(a)
        product = q if product is None else torch.bmm(q, product)
        if k < len(polynomials):
            gram = torch.bmm(q, torch.bmm(q, gram))
    return x if product is None else torch.bmm(product, x)
