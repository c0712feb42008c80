"""BatchNorm beside averaged weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn as recompute

from thalweg.core.optimizer import Optimizer


def update_bn(
    batches: Iterable[Any], model: nn.Module, optimizer: Optimizer, device: int | torch.device | None = None
) -> None:
    """Recompute BatchNorm's running statistics for the averaged weights, by one pass over ``batches`` without gradients.

    In training the statistics are those of the weights trained, and evaluated with the average's weights they are wrong.
    Call it before an evaluation or saving the final model; parameters and the modes of model and optimizer stay as they are.

    Args:
        batches: inputs, or tuples that begin with them, as ``torch.optim.swa_utils.update_bn`` takes them.
        model: may be in either mode; without BatchNorm nothing is done.
        optimizer: whose ``average`` is evaluated.
        device: where to move the inputs.
    """
    with optimizer.evaluation():
        recompute(batches, model, device)
