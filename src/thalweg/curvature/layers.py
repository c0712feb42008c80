"""The curvature of parts of a network: an operator restricted to some of its parameters, and the spectrum of every layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.sharding import local
from thalweg.curvature.lanczos import Eigenpairs, Which, eigenpairs
from thalweg.curvature.operators import LossOperator, Operator
from thalweg.curvature.space import Space

Blocks = Mapping[str, Iterable[str]]


class Restricted(Operator):
    """``EᵀAE``, with E the embedding of some parameters' vectors among those of all: the diagonal block of A.

    For an operator that cannot restrict itself, as ``hessian(…).restricted(names)``: a product costs one of the whole operator,
    and is counted there.

    Args:
        operator: A, over named parameters.
        names: of the parameters, as in ``operator.source.names``.
    """

    def __init__(self, operator: Operator, names: Iterable[str]) -> None:
        chosen = tuple(names)
        known = parameter_names(operator)
        require_known(chosen, known)
        self.operator, self.cost, self.method = operator, operator.cost, operator.method
        self.sizes = [local(p).numel() for p in operator.space.like]
        self.inside = [name in chosen for name in known]
        params = [p for p, inside in zip(operator.space.like, self.inside, strict=True) if inside]
        self.space = Space(params, operator.space.group)

    def product(self, v: Tensor) -> Tensor:
        """Embedded among zeros, multiplied, and taken out."""
        return self.taken_out(self.operator.matvec(self.embedded(v)))

    def embedded(self, v: Tensor) -> Tensor:
        """Ev."""
        whole = v.new_zeros(self.operator.space.held)
        parts = torch.split(v, [n for n, inside in zip(self.sizes, self.inside, strict=True) if inside])
        for place, part in zip(self._places(whole), parts, strict=True):
            place.copy_(part)
        return whole

    def taken_out(self, w: Tensor) -> Tensor:
        """Eᵀw."""
        return torch.cat(self._places(w))

    def _places(self, w: Tensor) -> list[Tensor]:
        """Where in a whole vector the chosen parameters are: views of it."""
        return [part for part, inside in zip(torch.split(w, self.sizes), self.inside, strict=True) if inside]


def restricted(operator: Operator, names: Iterable[str]) -> Operator:
    """The diagonal block of an operator on some parameters."""
    chosen = tuple(names)
    require_known(chosen, parameter_names(operator))
    return operator.restricted(chosen) if isinstance(operator, LossOperator) else Restricted(operator, chosen)


@dataclass(frozen=True)
class LayerSpectra:
    """The top eigenvalues of the diagonal blocks of an operator.

    Attributes:
        blocks: the eigenpairs of each block, by its name, in the order of the parameters.
        sizes: how many parameters each has.
        products: how many were used for all.
        gradient_equivalents: what they cost, in gradients.
    """

    blocks: dict[str, Eigenpairs]
    sizes: dict[str, int]
    products: int
    gradient_equivalents: float

    def table(self) -> str:
        """A line for each block: name, parameters, eigenvalues, ± residual."""
        head = ("block", "parameters", "eigenvalues ± residual")
        rows = [head, *((name, str(self.sizes[name]), listed(found)) for name, found in self.blocks.items())]
        name, size = (max(len(row[i]) for row in rows) for i in (0, 1))
        return "\n".join(f"{row[0]:{name}}  {row[1]:>{size}}  {row[2]}" for row in rows)

    def __str__(self) -> str:
        return self.table()


def layer_spectra(
    operator: Operator,
    k: int = 1,
    blocks: Blocks | None = None,
    *,
    which: Which = "largest",
    tol: float = 1e-2,
    max_products: int | None = None,
    seed: int = 0,
) -> LayerSpectra:
    """The k most extreme eigenvalues of each diagonal block of an operator.

    Those of a block are never above those of the whole: it is the curvature along this layer alone.

    Args:
        operator: over named parameters: of a loss, over batches, preconditioned.
        k: how many of each; all of a block that has no more.
        blocks: the parameters of each block, by its name; None: a block for each module that has parameters of its own.
        which, tol, max_products, seed: as in ``eigenpairs``, for each block.

    Raises:
        TypeError: an operator that is not of a loss.
        ValueError: a name that no parameter has, a block without parameters, or an argument that is not allowed.
        FloatingPointError: a product that is not finite.
    """
    chosen = by_module(parameter_names(operator)) if blocks is None else blocks
    parts = {name: restricted(operator, names) for name, names in chosen.items()}
    before = operator.cost.gradient_equivalents
    found = {
        name: eigenpairs(part, min(k, part.space.size), which=which, tol=tol, max_products=max_products, seed=seed)
        for name, part in parts.items()
    }
    return LayerSpectra(
        blocks=found,
        sizes={name: part.space.size for name, part in parts.items()},
        products=sum(pairs.products for pairs in found.values()),
        gradient_equivalents=float(operator.cost.gradient_equivalents - before),
    )


def by_module(names: Iterable[str]) -> dict[str, list[str]]:
    """The names before whose last dot the same stands, together under that; one without a dot under its own."""
    blocks: dict[str, list[str]] = {}
    for name in names:
        blocks.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return blocks


def parameter_names(operator: Operator) -> list[str]:
    """The names of the parameters that an operator is over."""
    if isinstance(operator, Restricted):
        return [
            name for name, inside in zip(parameter_names(operator.operator), operator.inside, strict=True) if inside
        ]
    source = getattr(operator, "source", None)
    if source is None:
        raise TypeError(f"{operator!r} is not over named parameters; only such an operator has blocks.")
    return list(source.names)


def require_known(names: tuple[str, ...], known: list[str]) -> None:
    """Refuse a block of nothing, or of what is not there."""
    if not names:
        raise ValueError(f"a block has no names; give it some of {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise ValueError(f"no parameter is named {name!r}; there are {', '.join(known)}.")


def listed(pairs: Eigenpairs) -> str:
    """The eigenvalues in one line."""
    numbers = zip(pairs.eigenvalues, pairs.residuals, strict=True)
    return ", ".join(f"{value.item():.4g} ± {residual.item():.1g}" for value, residual in numbers)
