"""The Hessian of a loss, and three ways to multiply with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from thalweg.core.allowed import Choice
from thalweg.curvature.differences import CHECK, central, disagree, inner
from thalweg.curvature.operators import LossFunction, LossOperator, Params, gradient_of, pulled_back
from thalweg.curvature.underivable import (
    NoSecondDerivative,
    lacks_second_derivative,
    named_culprit,
    no_second_derivative,
)

Method = Literal["auto", "double_backward", "forward_over_reverse", "difference"]


class Hessian(LossOperator):
    """``Hv``, exact unless ``method="difference"``.

    - ``"double_backward"``: ``Hv = ∂(gᵀv)/∂p``, back through the gradient (Pearlmutter 1994).  The graph of the gradient is
      built once and serves all products.
    - ``"forward_over_reverse"``: the derivative of the gradient along v, by dual numbers.  Every product evaluates the loss
      again; nothing is kept between them, so memory is that of a gradient.
    - ``"difference"``: ``(g(p + hv) − g(p − hv)) / 2h``.  It takes first derivatives only.  In float32 its error is 1e-4 of
      ‖Hv‖ for smooth networks; across the kinks of ReLU it is useless.  h moves the parameters by ∛ε of their norm.
    - ``"auto"``: the first, and the second where the first has no derivative to go through.

    Autograd takes what a custom ``autograd.Function`` computes in its backward by other means than torch's for constants,
    and says nothing.  So where the loss contains one, the first product is preceded by a comparison with the gradient's
    difference, along the gradient.
    """

    def __init__(self, loss_fn: LossFunction, params: Params, method: Method = "auto") -> None:
        Choice(("auto", *WAYS)).check("hessian: method", method)
        self.candidates = ("double_backward", "forward_over_reverse") if method == "auto" else (method,)
        self.settled = False
        self.take(self.candidates[0])
        super().__init__(loss_fn, params)

    def take(self, way: str, reason: str = "") -> None:
        """Make products in this way from now on."""
        self.way, self.method = way, WAYS[way][1] + reason

    def differentiate(self, loss: Tensor) -> list[Tensor]:
        """The gradient; with its graph where products go through that."""
        return gradient_of([loss], self.source.leaves, graph=self.way == "double_backward")

    def pull(self, v: Sequence[Tensor]) -> list[Tensor]:
        """This process's product; the first one shows which ways there are."""
        if self.settled:
            return WAYS[self.way][0](self, v)
        self.settled, failure = True, None
        for way in self.candidates:
            try:
                if self.opaque and way != "difference":
                    self.compare(WAYS[way][0])
                product = WAYS[way][0](self, v)
            except (RuntimeError, NotImplementedError) as error:
                # Autograd has no class of its own for this, only words: whatever else it is goes on.
                if not lacks_second_derivative(error):
                    raise
                failure = error
                continue
            if way != self.way:
                self.take(way, f": {named_culprit(self.source)} has no derivative of its backward")
                self.slopes = [slope.detach() for slope in self.slopes]
            return product
        self.settled = False
        raise no_second_derivative(self.source) from failure

    def compare(self, way: Callable[[Hessian, Sequence[Tensor]], list[Tensor]]) -> None:
        """Refuse a way that misses a part of gᵀHg: differences show that even across kinks, where they are poor for Hg."""
        g = [slope.detach() for slope in self.slopes]
        self.cost.products += 1
        exact, near = (torch.tensor([inner(g, product)]) for product in (way(self, g), difference(self, g, CHECK)))
        if disagree([exact], [near]):
            raise NoSecondDerivative("the derivative of a custom backward is not what its difference shows")


def double_backward(H: Hessian, v: Sequence[Tensor]) -> list[Tensor]:
    """Back through the gradient."""
    return pulled_back(H.slopes, H.source.leaves, v)


def forward_over_reverse(H: Hessian, v: Sequence[Tensor]) -> list[Tensor]:
    """The tangent of the gradient, where that of the parameters is v."""
    with H.source.evaluating(), forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(leaf.detach().requires_grad_(), tangent)
            for leaf, tangent in zip(H.source.leaves, v, strict=True)
        ]
        loss = H.source.at(H.source.standing_in(duals))
        H.require_same(forward_ad.unpack_dual(loss).primal)
        tangents = [forward_ad.unpack_dual(g).tangent for g in gradient_of([loss], duals, graph=False)]
    return [torch.zeros_like(leaf) if t is None else t for t, leaf in zip(tangents, H.source.leaves, strict=True)]


def difference(H: Hessian, v: Sequence[Tensor], relative: float | None = None) -> list[Tensor]:
    """The difference of this process's gradients at two points."""

    def gradient(point: list[Tensor]) -> list[Tensor]:
        moved = [p.requires_grad_() for p in point]
        with H.source.evaluating():
            return gradient_of([H.source.at(H.source.standing_in(moved))], moved, graph=False)

    return central(gradient, H.source.leaves, v, relative)


WAYS: dict[str, tuple[Callable[[Hessian, Sequence[Tensor]], list[Tensor]], str]] = {
    "double_backward": (double_backward, "double backward, one graph for all products"),
    "forward_over_reverse": (forward_over_reverse, "forward over reverse"),
    "difference": (difference, "central differences of the gradient"),
}
