"""Curvature of a loss: products with its Hessian or Gauss–Newton matrix, their eigenvalues, and what they cost."""

from thalweg.curvature.batches import OverBatches, over_batches
from thalweg.curvature.boundary import network_output
from thalweg.curvature.build import empirical_fisher, gauss_newton, hessian
from thalweg.curvature.cost import Cost, CountsCost
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.lanczos import Eigenpairs, eigenpairs
from thalweg.curvature.operators import EmpiricalFisher, GaussNewton, Operator

__all__ = [
    "Cost",
    "CountsCost",
    "Eigenpairs",
    "EmpiricalFisher",
    "GaussNewton",
    "Hessian",
    "Operator",
    "OverBatches",
    "eigenpairs",
    "empirical_fisher",
    "gauss_newton",
    "hessian",
    "network_output",
    "over_batches",
]
