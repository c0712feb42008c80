"""How an operator is asked for: by its loss and parameters, checked before anything is made of it."""

from __future__ import annotations

from thalweg.curvature.operators import EmpiricalFisher, GaussNewton, Hessian, LossFunction, Params


def hessian(loss_fn: LossFunction, params: Params) -> Hessian:
    """x"""
    return Hessian(loss_fn, params)


def gauss_newton(loss_fn: LossFunction, params: Params) -> GaussNewton:
    """x"""
    return GaussNewton(loss_fn, params)


def empirical_fisher(loss_fn: LossFunction, params: Params) -> EmpiricalFisher:
    """x"""
    return EmpiricalFisher(loss_fn, params)
