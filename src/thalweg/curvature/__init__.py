"""Curvature of a loss: products with its Hessian or Gauss–Newton matrix, their eigenvalues, and what they cost."""

from thalweg.curvature.boundary import network_output
from thalweg.curvature.build import empirical_fisher, gauss_newton, hessian
from thalweg.curvature.cost import Cost, CountsCost
from thalweg.curvature.density import Density, density
from thalweg.curvature.estimates import Diagonal, Trace, diagonal, trace
from thalweg.curvature.lanczos import Eigenpairs, eigenpairs
from thalweg.curvature.layers import LayerSpectra, Restricted, layer_spectra
from thalweg.curvature.operators import EmpiricalFisher, GaussNewton, Hessian, Operator

__all__ = [
    "Cost",
    "CountsCost",
    "Density",
    "Diagonal",
    "Eigenpairs",
    "EmpiricalFisher",
    "GaussNewton",
    "Hessian",
    "LayerSpectra",
    "Operator",
    "Restricted",
    "Trace",
    "density",
    "diagonal",
    "eigenpairs",
    "empirical_fisher",
    "gauss_newton",
    "hessian",
    "layer_spectra",
    "network_output",
    "trace",
]
