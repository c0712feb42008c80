"""Training steered by curvature: an optimizer's learning rate held under what the loss bears."""

from thalweg.control.cdat import CDAT
from thalweg.control.dcao import DCAO
from thalweg.control.decision import Decision
from thalweg.control.edge import Edge
from thalweg.control.exponential import Exponential
from thalweg.control.hidlr import HiDLR
from thalweg.control.steered import Steered, as_stepped

__all__ = ["CDAT", "DCAO", "Decision", "Edge", "Exponential", "HiDLR", "Steered", "as_stepped"]
