"""thalweg: optimizers for PyTorch whose code reads like the equation and runs as fused kernels."""

from thalweg._version import __version__
from thalweg.batchnorm import update_bn
from thalweg.control import CDAT, DCAO, Edge, Exponential, HiDLR
from thalweg.convert import convert
from thalweg.core.options import Options
from thalweg.curvature.monitor import CurvatureMonitor
from thalweg.mixed import Mixed
from thalweg.preflight import Finding, PreflightWarning, preflight
from thalweg.registry import create, list_optimizers
from thalweg.routing import Routes, route
from thalweg.rules.adadelta import Adadelta
from thalweg.rules.adagrad import Adagrad
from thalweg.rules.adam import Adam, AdamW
from thalweg.rules.dope import DOPE
from thalweg.rules.exmachina import ExMachina
from thalweg.rules.lbfgs import LBFGS
from thalweg.rules.mars import MARS
from thalweg.rules.muon import Muon
from thalweg.rules.nadam import NAdam
from thalweg.rules.newton import NewtonCG
from thalweg.rules.rmsprop import RMSprop
from thalweg.rules.saveus import SAVEUS
from thalweg.rules.schedule_free import AdamWScheduleFree, SGDScheduleFree
from thalweg.rules.sgd import SGD

__all__ = [
    "CDAT",
    "DCAO",
    "DOPE",
    "LBFGS",
    "MARS",
    "SAVEUS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "CurvatureMonitor",
    "Edge",
    "ExMachina",
    "Exponential",
    "Finding",
    "HiDLR",
    "Mixed",
    "Muon",
    "NAdam",
    "NewtonCG",
    "Options",
    "PreflightWarning",
    "RMSprop",
    "Routes",
    "SGDScheduleFree",
    "__version__",
    "convert",
    "create",
    "list_optimizers",
    "preflight",
    "route",
    "update_bn",
]
