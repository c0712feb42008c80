"""Curvature of a loss: products with its Hessian or Gauss–Newton matrix, their eigenvalues, and what they cost."""

from thalweg.curvature.batches import OverBatches, over_batches
from thalweg.curvature.boundary import network_output
from thalweg.curvature.build import empirical_fisher, gauss_newton, hessian
from thalweg.curvature.cost import Cost, CountsCost
from thalweg.curvature.density import Density, density
from thalweg.curvature.estimates import Diagonal, Trace, diagonal, trace
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.lanczos import Eigenpairs, eigenpairs
from thalweg.curvature.layers import LayerSpectra, Restricted, layer_spectra
from thalweg.curvature.logs import CsvLog, TensorBoardLog
from thalweg.curvature.monitor import CurvatureMonitor, CurvatureRecord
from thalweg.curvature.operators import EmpiricalFisher, GaussNewton, Operator
from thalweg.curvature.preconditioner import Preconditioned, preconditioned
from thalweg.curvature.sharpness import BatchSharpness, SharpnessRatio, batch_sharpness, sharpness_ratio
from thalweg.curvature.stability import stability_threshold

__all__ = [
    "BatchSharpness",
    "Cost",
    "CountsCost",
    "CsvLog",
    "CurvatureMonitor",
    "CurvatureRecord",
    "Density",
    "Diagonal",
    "Eigenpairs",
    "EmpiricalFisher",
    "GaussNewton",
    "Hessian",
    "LayerSpectra",
    "Operator",
    "OverBatches",
    "Preconditioned",
    "Restricted",
    "SharpnessRatio",
    "TensorBoardLog",
    "Trace",
    "batch_sharpness",
    "density",
    "diagonal",
    "eigenpairs",
    "empirical_fisher",
    "gauss_newton",
    "hessian",
    "layer_spectra",
    "network_output",
    "over_batches",
    "preconditioned",
    "sharpness_ratio",
    "stability_threshold",
    "trace",
]
