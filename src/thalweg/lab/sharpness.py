"""Sharpness along a run, beside the threshold up to which its rule is stable."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from thalweg.control import as_stepped
from thalweg.curvature import Eigenpairs, SharpnessRatio, eigenpairs, hessian, network_output, sharpness_ratio
from thalweg.lab.tasks.task import Batch

TOLERANCE, MOST_PRODUCTS = 0.05, 40
"""Relative residual of an eigenvalue, whose error is of its square's order, and what may be spent on one."""


class Sharpness:
    """λ1(P⁻¹H) of the loss on a fixed batch, each probe started where the last one ended."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, loss: Callable[[Tensor, Tensor], Tensor]
    ):
        self.model, self.optimizer, self.batch, self.criterion = model, optimizer, batch, loss
        self.ratio: SharpnessRatio | None = None
        self.pairs: Eigenpairs | None = None

    def loss(self) -> Tensor:
        """Return the loss of the batch."""
        inputs, targets = self.batch
        return self.criterion(network_output(self.model(inputs)), targets)

    def measure(self) -> tuple[float | None, float | None]:
        """Return sharpness and threshold: of the Hessian alone, and None, where the rule's threshold is not known; None
        twice where something is not finite."""
        try:
            return self._measured()
        except FloatingPointError:
            return None, None

    def _measured(self) -> tuple[float, float | None]:
        H = hessian(self.loss, self.model)
        try:
            with as_stepped(self.optimizer) as plain:
                self.ratio = sharpness_ratio(H, plain, tol=TOLERANCE, max_products=MOST_PRODUCTS, start=self.ratio)
        except ValueError:
            self.pairs = eigenpairs(H, 1, tol=TOLERANCE, max_products=MOST_PRODUCTS, start=self.pairs)
            return cast(float, self.pairs.eigenvalues[0].item()), None
        return self.ratio.sharpness, self.ratio.threshold
