"""Symmetric matrices of a loss over parameters, known by their products: Hessian, Gauss–Newton, empirical Fisher.

A matrix is that of a scalar loss over the parameters in a row, flattened and joined; it is never formed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, nn

from thalweg.curvature.boundary import Boundary
from thalweg.curvature.cost import Cost
from thalweg.curvature.differences import CHECK, central, disagree
from thalweg.curvature.loss import Loss
from thalweg.curvature.space import Space
from thalweg.curvature.underivable import has_custom_functions, no_second_derivative

LossFunction: TypeAlias = Callable[[], Tensor]
"""Returns a scalar loss with its graph: it calls no ``backward``."""

Params: TypeAlias = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]]
"""A network, its parameters, or some of them: whose curvature is meant."""


class Operator(ABC):
    """A symmetric matrix known by its products with vectors.

    Attributes:
        space: the vectors it acts on; a vector has shape (n,), or on shards what this process holds of it.
        cost: what was spent on it so far.
        method: how products are made, and why so.
    """

    space: Space
    cost: Cost
    method: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n), over all processes."""
        return self.space.size, self.space.size

    def matvec(self, v: Tensor) -> Tensor:
        """The product with a vector."""
        if v.shape != (self.space.held,):
            raise ValueError(
                f"matvec: v has shape {tuple(v.shape)}; {self!r} acts on vectors of shape ({self.space.held},)."
            )
        return self.product(v)

    @abstractmethod
    def product(self, v: Tensor) -> Tensor:
        """The product with a vector of the right shape."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape})"


class LossOperator(Operator):
    """A matrix of a loss at the parameters of one evaluation, whose graph is kept and used for all products.

    It is of the parameters as they are: once they change, evaluate anew.

    Attributes:
        loss: the value of the loss, 0-D, without graph.
        gradient: its gradient, without graph.
    """

    slopes: list[Tensor]  # this process's gradient, in tensors

    def __init__(self, loss_fn: LossFunction, params: Params) -> None:
        self.source = Loss(loss_fn, params)
        self.cost = Cost(gradients=1)
        with self.source.evaluating():
            loss = self.evaluate()
            self.opaque = has_custom_functions(loss)
            self.slopes = self.differentiate(loss)
        self.space = self.source.space()
        self.first = loss.item()  # of this process alone
        self.loss = self.space.mean_number(loss.detach())
        self.gradient = self.space.mean([g.detach() for g in self.slopes])

    def evaluate(self) -> Tensor:
        """The loss, with its graph."""
        return self.source()

    def differentiate(self, loss: Tensor) -> list[Tensor]:
        """The gradient, with its graph."""
        return gradient_of([loss], self.source.leaves)

    def require_same(self, loss: Tensor) -> None:
        """Refuse a loss function that has come to another value at the same parameters, with the same random numbers."""
        before, after = self.first, loss.item()
        if not abs(after - before) <= 1e-4 * max(abs(before), abs(after)) and math.isfinite(before):
            raise ValueError(
                f"loss_fn returned {before:g} and then {after:g} at the same parameters and with the same random numbers: it"
                " must be a function of the parameters, so hold the batch, and whatever else it draws, fixed."
            )

    def product(self, v: Tensor) -> Tensor:
        """The mean over the processes of each one's product."""
        self.cost.products += 1
        with self.source.differentiating():
            return self.space.mean(self.pull(self.source.as_leaves(self.space.gathered(v))))

    def restricted(self, names: Iterable[str]) -> Self:
        """``EᵀAE``, with E the embedding of some parameters' vectors among those of all: the diagonal block of A.

        It shares graph and cost with the whole, and a product goes back to these parameters only.

        Raises:
            ValueError: a name that no parameter has, or none.
        """
        block = copy(self)
        block.source, places = self.source.restricted(names)
        block.slopes = [self.slopes[i] for i in places]
        block.space = block.source.space()
        block.gradient = block.space.mean([slope.detach() for slope in block.slopes])
        return block

    @abstractmethod
    def pull(self, v: Sequence[Tensor]) -> list[Tensor]:
        """This process's product with a vector in the shapes of the parameters."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, loss={self.loss.item():.6g})"


class GaussNewton(LossOperator):
    """``Gv = Jᵀ H_L J v``: the Hessian H_L of the loss by the network's outputs z, between Jacobians of these outputs.

    Schraudolph 2002.  Positive semidefinite where the loss is convex in z, and equal to the Hessian where z is linear in the
    parameters.  The outputs are what the function called its loss with (``cross_entropy``, ``mse_loss``, …), or what it
    marked by ``network_output``.  Terms of the loss that do not pass through them, as a penalty on the parameters, are in
    the gradient, and not in G.
    """

    method = "double backward: Jv through the derivative of vᵀJ by v"

    def evaluate(self) -> Tensor:
        """The loss; the outputs are noted on the way."""
        with Boundary() as self.boundary:
            loss = self.source()
        self.outputs = self.boundary.outputs()
        return loss

    def differentiate(self, loss: Tensor) -> list[Tensor]:
        """The gradient of loss + ⟨w, z⟩ at w = 0: the loss's own, and its derivative by w is J."""
        self.weights = [torch.zeros_like(z, requires_grad=True) for z in self.outputs]
        self.output_slopes = gradient_of([loss], self.outputs)
        paired = [torch.sum(w * z) for w, z in zip(self.weights, self.outputs, strict=True)]
        return gradient_of([loss, *paired], self.source.leaves)

    def pull(self, v: Sequence[Tensor]) -> list[Tensor]:
        """Forward by J, through the loss, and back by Jᵀ."""
        if self.opaque:
            self.compare()
            self.opaque = False
        jv = pulled_back(self.slopes, self.weights, v)
        return pulled_back(self.outputs, self.source.leaves, self.through_loss(jv))

    def compare(self) -> None:
        """Refuse what autograd takes for constants in custom functions: see ``Hessian``.  By H_L Jg, the change of ∂L/∂z."""

        def output_slopes(point: list[Tensor]) -> list[Tensor]:
            with self.source.evaluating(), Boundary() as boundary:
                loss = self.source.at(self.source.standing_in([p.requires_grad_() for p in point]))
                return gradient_of([loss], boundary.outputs(), graph=False)

        g = [slope.detach() for slope in self.slopes]
        self.cost.products += 1
        exact = GaussNewton.through_loss(self, pulled_back(self.slopes, self.weights, g))
        if disagree(exact, central(output_slopes, self.source.leaves, g, CHECK)):
            raise no_second_derivative(self.source)

    def through_loss(self, jv: Sequence[Tensor]) -> list[Tensor]:
        """H_L J v."""
        return pulled_back(self.output_slopes, self.outputs, jv)


class EmpiricalFisher(GaussNewton):
    """``Fv = Σᵢ gᵢ gᵢᵀ v / N``: the second moment of the gradients gᵢ of the N examples, the rows of the outputs.

    For a loss that is summed over its examples, the sum.  With the network's own labels in place of the data's it would be
    the Fisher matrix; with the data's it is neither that nor the Hessian (Kunstner et al. 2019, arXiv:1905.12558).
    Normalization over the batch makes examples depend on each other; gᵢ is then only what passes through row i of the outputs.
    """

    def through_loss(self, jv: Sequence[Tensor]) -> list[Tensor]:
        """N rᵢ rᵢᵀ (Jv)ᵢ, rᵢ = gradient of the mean loss by the outputs of example i."""
        if len({len(z) for z in self.outputs}) > 1:
            raise ValueError(
                f"empirical_fisher: the outputs have {', '.join(str(len(z)) for z in self.outputs)} rows; each example must be"
                " a row of every output."
            )
        examples = len(self.outputs[0])
        slopes = [r.detach().reshape(examples, -1) for r in self.output_slopes]
        along = sum((r * x.reshape(examples, -1)).sum(1) for r, x in zip(slopes, jv, strict=True))
        weight = 1 if self.boundary.sums else examples
        return [(weight * r * along[:, None]).view_as(x) for r, x in zip(slopes, jv, strict=True)]  # pyright: ignore[reportOptionalSubscript, reportIndexIssue]


def gradient_of(outputs: Sequence[Tensor], inputs: Sequence[Tensor], graph: bool = True) -> list[Tensor]:
    """The gradient of the sum of the outputs, with its graph; refuses outputs that depend on none of the inputs."""
    reaching = [o for o in outputs if o.requires_grad]
    found: Any = reaching and torch.autograd.grad(
        reaching, inputs, retain_graph=True, create_graph=graph, allow_unused=True
    )
    if all(g is None for g in found):
        raise ValueError(
            "loss_fn returned a loss without a graph to any of the parameters: it must depend on one, and not be detached."
        )
    return [torch.zeros_like(i) if g is None else g for i, g in zip(inputs, found, strict=True)]


def pulled_back(outputs: Sequence[Tensor], inputs: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
    """Σ vᵢᵀ ∂outputᵢ/∂input for every input; zeros where nothing depends on it.  Keeps the graph."""
    pairs = [(o, v) for o, v in zip(outputs, vectors, strict=True) if o.requires_grad]
    if not pairs:
        return [torch.zeros_like(i) for i in inputs]
    found: Any = torch.autograd.grad(
        [o for o, _ in pairs],
        inputs,
        [v for _, v in pairs],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return list(found)
