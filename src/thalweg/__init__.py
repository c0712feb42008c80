"""thalweg: optimizers for PyTorch whose code reads like the equation and runs as fused kernels."""

from torch.optim import LBFGS

from thalweg._version import __version__
from thalweg.batchnorm import update_bn
from thalweg.core.options import Options
from thalweg.mixed import Mixed
from thalweg.registry import create, list_optimizers
from thalweg.rules.adadelta import Adadelta
from thalweg.rules.adagrad import Adagrad
from thalweg.rules.adam import Adam, AdamW
from thalweg.rules.dope import DOPE
from thalweg.rules.exmachina import ExMachina
from thalweg.rules.mars import MARS
from thalweg.rules.muon import Muon
from thalweg.rules.nadam import NAdam
from thalweg.rules.rmsprop import RMSprop
from thalweg.rules.saveus import SAVEUS
from thalweg.rules.schedule_free import AdamWScheduleFree, SGDScheduleFree
from thalweg.rules.sgd import SGD

__all__ = [
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
    "ExMachina",
    "Mixed",
    "Muon",
    "NAdam",
    "Options",
    "RMSprop",
    "SGDScheduleFree",
    "__version__",
    "create",
    "list_optimizers",
    "update_bn",
]
