"""How an operator is asked for: by its loss and parameters, looked at before anything is made of them."""

from __future__ import annotations

import math
from typing import TypeVar

import torch

from thalweg.curvature.hessian import Hessian, Method
from thalweg.curvature.operators import EmpiricalFisher, GaussNewton, LossFunction, LossOperator, Params

Built = TypeVar("Built", bound=LossOperator)


def hessian(loss_fn: LossFunction, params: Params, method: Method = "auto") -> Hessian:
    """The Hessian of ``loss_fn()`` over ``params``, at the parameters as they are.

    Nothing of the model changes: not its parameters, gradients, buffers or modes, nor any generator of random numbers.
    All products are with the same dropout mask.  BatchNorm in training mode is part of the function: it normalizes by the
    batch.  bfloat16 and float16 models, and losses under autocast, are evaluated in float32; compiled modules as their
    original; attention by the kernel that has a second derivative.  Under DistributedDataParallel and FSDP2 it is the matrix
    of the loss's mean over the processes, each of which calls this with its own batch.

    Args:
        loss_fn: returns a scalar loss with its graph, without calling backward.
        params: a module; or tensors, named or not, that require gradients; those that the loss does not depend on have zero
            rows.  Under FSDP2, the module.
        method: how products are made: see ``Hessian``.

    Raises:
        ValueError: a parameter that requires no gradient, a loss that is no scalar or depends on none of the parameters or
            on more than them, a ``loss_fn`` that called backward.
        TypeError: a loss that is no tensor.
        FloatingPointError: a loss or gradient that is not finite.
        RuntimeError: at the first product, a module that has no second derivative.
    """
    return checked(Hessian(loss_fn, params, method))


def gauss_newton(loss_fn: LossFunction, params: Params) -> GaussNewton:
    """The Gauss–Newton matrix of ``loss_fn()`` over ``params``, evaluated once; see ``GaussNewton`` and ``hessian``.

    Raises:
        ValueError: as ``hessian``, and when no loss function was seen, so that nothing says where the network ends.
    """
    return checked(GaussNewton(loss_fn, params))


def empirical_fisher(loss_fn: LossFunction, params: Params) -> EmpiricalFisher:
    """The second moment of the examples' gradients of ``loss_fn()``; see ``EmpiricalFisher`` and ``gauss_newton``."""
    return checked(EmpiricalFisher(loss_fn, params))


def checked(operator: Built) -> Built:
    """The operator, if its loss is finite and the same when it is evaluated again; processes refuse together or not at all."""
    if not math.isfinite(loss := operator.loss.item()):
        raise FloatingPointError(f"loss_fn returned {loss}; curvature needs a finite loss.")
    bad = (~operator.gradient.isfinite()).to(operator.space.dtype)
    if operator.space.inner(bad[None], torch.ones_like(bad)).item():
        here = [n for n, g in zip(operator.source.names, operator.slopes, strict=True) if not g.isfinite().all()]
        raise FloatingPointError(f"the gradient of the loss by {here[0] if here else 'a parameter'} is not finite.")
    operator.cost.values += 1
    with operator.source.evaluating():  # with gradients: a loss may differentiate by itself
        operator.require_same(operator.source())
    return operator
