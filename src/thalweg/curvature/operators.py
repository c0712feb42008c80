"""Products with the Hessian or the Gauss–Newton matrix of a loss, exact, from the graph of one evaluation.

A matrix is that of a scalar loss over the parameters in a row, flattened and joined; it is never formed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function

LossFunction = Callable[[], Tensor]
"""Returns a scalar loss with its graph: it calls no ``backward``."""


class Operator(ABC):
    """A symmetric matrix at the parameters of one evaluation, known by its products with vectors.

    The graph of the evaluation is kept and used for all products.  It is of the parameters as they are: once they change,
    evaluate anew.

    Attributes:
        loss: the value of the loss, 0-D, without graph.
        gradient: its gradient, (n,), without graph.
        shape: (n, n).
    """

    def __init__(self, loss_fn: LossFunction, params: Iterable[Tensor]) -> None:
        self.params = list(params)
        require_gradients(self.params)
        before = gradients(self.params)
        # The fused attention kernels have no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            loss = self.evaluate(loss_fn)
        require_unwritten(before, gradients(self.params))
        require_scalar(loss)
        with torch.enable_grad():
            self.slope = self.differentiate(loss)
        self.loss, self.gradient = loss.detach(), self.slope.detach()
        self.shape = (self.slope.numel(), self.slope.numel())

    @abstractmethod
    def matvec(self, v: Tensor) -> Tensor:
        """The product with a vector (n,)."""

    def evaluate(self, loss_fn: LossFunction) -> Tensor:
        """The loss, with its graph."""
        return loss_fn()

    def differentiate(self, loss: Tensor) -> Tensor:
        """The gradient (n,), with its graph."""
        return joined(pulled_back([loss], self.params, graph=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, loss={self.loss.item():.6g})"


class Hessian(Operator):
    """``Hv = ∂(gᵀv)/∂p``: back through the gradient.  Pearlmutter 1994, by double backward."""

    def matvec(self, v: Tensor) -> Tensor:
        """The product with a vector (n,)."""
        return joined(pulled_back([self.slope], self.params, [v]))


class GaussNewton(Operator):
    """``Gv = Jᵀ H_L J v``: the Hessian H_L of the loss by the network's outputs z, between Jacobians of these outputs.

    Schraudolph 2002.  Positive semidefinite where the loss is convex in z, and equal to the Hessian where z is linear in the
    parameters.  The outputs are what the function called its loss with (``cross_entropy``, ``mse_loss``, …), or what it
    marked by ``network_output``.  Terms of the loss that do not pass through them, as a penalty on the parameters, are in
    the gradient, and not in G.
    """

    def evaluate(self, loss_fn: LossFunction) -> Tensor:
        """The loss; the outputs are noted on the way."""
        with Boundary() as boundary:
            loss = loss_fn()
        self.outputs = boundary.outputs()
        return loss

    def differentiate(self, loss: Tensor) -> Tensor:
        """The gradient of loss + ⟨w, z⟩ at w = 0: the loss's own, and its derivative by w is J."""
        require_independent(self.outputs)
        self.weights = [torch.zeros_like(z, requires_grad=True) for z in self.outputs]
        self.output_slopes = pulled_back([loss], self.outputs, graph=True)
        paired = [torch.sum(w * z) for w, z in zip(self.weights, self.outputs, strict=True)]
        return joined(pulled_back([loss, *paired], self.params, graph=True))

    def matvec(self, v: Tensor) -> Tensor:
        """The product with a vector (n,)."""
        jv = pulled_back([self.slope], self.weights, [v])
        hjv = pulled_back(self.output_slopes, self.outputs, jv)
        return joined(pulled_back(self.outputs, self.params, hjv))


def hessian(loss_fn: LossFunction, params: Iterable[Tensor]) -> Hessian:
    """The Hessian of ``loss_fn()`` over ``params``, evaluated once.

    Args:
        loss_fn: returns a scalar loss with its graph, without calling backward.
        params: tensors that require gradients; any that the loss does not depend on have zero rows.

    Raises:
        ValueError: a parameter that requires no gradient, a loss that is no scalar or depends on none of them, a
            ``loss_fn`` that called backward.
        TypeError: a loss that is no tensor.
    """
    return Hessian(loss_fn, params)


def gauss_newton(loss_fn: LossFunction, params: Iterable[Tensor]) -> GaussNewton:
    """The Gauss–Newton matrix of ``loss_fn()`` over ``params``, evaluated once; see ``GaussNewton`` and ``hessian``.

    Raises:
        ValueError: as ``hessian``, and when no loss function was seen, so that nothing says where the network ends.
    """
    return GaussNewton(loss_fn, params)


def network_output(z: Tensor) -> Tensor:
    """Mark where the network ends and the loss begins, and return ``z`` itself: ``my_loss(network_output(model(x)), y)``.

    The Gauss–Newton matrix needs this place.  It finds torch's own loss functions; one written by hand is marked.
    """
    # Only a mode that listens, as Boundary below, sees this call.
    return handle_torch_function(network_output, (z,), z) if has_torch_function((z,)) else z


class Boundary(TorchFunctionMode):
    """Notes what losses are called with; explicit marks take the place of what it would find."""

    LOSSES = frozenset(
        (
            F.binary_cross_entropy,
            F.binary_cross_entropy_with_logits,
            F.cross_entropy,
            F.huber_loss,
            F.l1_loss,
            F.mse_loss,
            F.poisson_nll_loss,
            F.smooth_l1_loss,
            F.soft_margin_loss,
        )
    )
    # nll_loss is linear in log-probabilities: its curvature is that of the log_softmax before.
    LOG_SOFTMAX = frozenset((F.log_softmax, torch.log_softmax, Tensor.log_softmax))

    def __init__(self) -> None:
        super().__init__()
        self.marked: list[Tensor] = []
        self.seen: list[Tensor] = []
        self.logits: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operands: list[Any] = [*args[:2], *(kwargs or {}).values()]
        tensors = [a for a in operands if isinstance(a, Tensor) and a.requires_grad]
        if func is network_output:
            self.marked += tensors
        elif func in self.LOSSES:
            self.seen += tensors
        elif func in self.LOG_SOFTMAX:
            self.logits = tensors
        elif func is F.nll_loss:
            self.seen += self.logits
        return func(*args, **(kwargs or {}))

    def outputs(self) -> list[Tensor]:
        """Each output once."""
        found = list({id(z): z for z in self.marked or self.seen}.values())
        if not found:
            raise ValueError(
                "gauss_newton: loss_fn called none of torch's loss functions on a network's outputs, so nothing says where"
                " the network ends; mark its outputs with thalweg.curvature.network_output(z), or take the Hessian."
            )
        return found


def require_independent(outputs: Sequence[Tensor]) -> None:
    """Refuse outputs of which one is computed from another: part of the curvature would count twice."""
    for z in outputs:
        others = [o for o in outputs if o is not z]
        found: Any = torch.autograd.grad(z.sum(), others, retain_graph=True, allow_unused=True) if others else ()
        if any(g is not None for g in found):
            raise ValueError(
                "gauss_newton: loss_fn calls losses on outputs of which one is computed from another; mark the one where the"
                " network ends with thalweg.curvature.network_output(z)."
            )


def joined(tensors: Iterable[Tensor]) -> Tensor:
    """All elements in one vector (n,)."""
    return torch.cat([t.reshape(-1) for t in tensors])


def split(v: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """A vector (n,) in tensors of the given shapes: views of it."""
    return [part.view(t.shape) for part, t in zip(torch.split(v, [t.numel() for t in like]), like, strict=True)]


def pulled_back(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], vectors: Sequence[Tensor] | None = None, graph: bool = False
) -> list[Tensor]:
    """Σ vᵢᵀ ∂outputᵢ/∂input for every input, ones for no vectors; zeros where nothing depends on it.  Keeps the graph."""
    vectors = vectors or [torch.ones_like(o) for o in outputs]
    pairs = [(o, v) for o, v in zip(outputs, vectors, strict=True) if o.requires_grad]
    if not pairs:
        return [torch.zeros_like(i) for i in inputs]
    found = torch.autograd.grad(
        [o for o, _ in pairs],
        inputs,
        [v for _, v in pairs],
        retain_graph=True,
        create_graph=graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return list(found)


def gradients(params: Iterable[Tensor]) -> list[tuple[Tensor | None, int]]:
    """The gradients that stand in the parameters, and how often each was written."""
    return [(p.grad, 0 if p.grad is None else p.grad._version) for p in params]


def require_gradients(params: Sequence[Tensor]) -> None:
    """Refuse what cannot be differentiated by."""
    if not params:
        raise ValueError("params is empty; curvature needs at least one parameter.")
    for i, p in enumerate(params):
        if not p.requires_grad:
            raise ValueError(f"params[{i}], shape {tuple(p.shape)}, does not require a gradient; leave it out.")


def require_unwritten(before: list[tuple[Tensor | None, int]], after: list[tuple[Tensor | None, int]]) -> None:
    """Refuse a function that has called backward: its graph is gone."""
    for (old, earlier), (new, later) in zip(before, after, strict=True):
        if new is not None and (new is not old or later != earlier):
            raise ValueError("loss_fn wrote gradients: it must return the loss and leave backward() to its caller.")


def require_scalar(loss: Any) -> None:
    """Refuse what is no loss of the parameters."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss_fn returned {type(loss).__name__}; it must return the loss as a 0-D tensor.")
    if loss.ndim:
        raise ValueError(f"loss_fn returned shape {tuple(loss.shape)}; it must return a scalar, shape ().")
    if not loss.requires_grad:
        raise ValueError("loss_fn returned a loss without a graph: it must depend on a parameter, and not be detached.")
