"""Curvature of a loss: products with its Hessian or Gauss–Newton matrix, and what they cost."""

from thalweg.curvature.cost import Cost, CountsCost
from thalweg.curvature.operators import GaussNewton, Hessian, Operator, gauss_newton, hessian, network_output

__all__ = [
    "Cost",
    "CountsCost",
    "GaussNewton",
    "Hessian",
    "Operator",
    "gauss_newton",
    "hessian",
    "network_output",
]
