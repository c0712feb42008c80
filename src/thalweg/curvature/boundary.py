"""Where a network ends and its loss begins: found while the loss function runs, or marked by its author."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function


def network_output(z: Tensor) -> Tensor:
    """Mark where the network ends and the loss begins, and return ``z`` itself: ``my_loss(network_output(model(x)), y)``.

    The Gauss–Newton matrix and the empirical Fisher need this place.  They find torch's own loss functions; one written by
    hand is marked.
    """
    # Only a mode that listens, as Boundary below, sees this call.
    return handle_torch_function(network_output, (z,), z) if has_torch_function((z,)) else z


class Boundary(TorchFunctionMode):
    """Notes what losses are called with; explicit marks take the place of what it would find."""

    LOSSES = frozenset(
        (
            F.binary_cross_entropy,
            F.binary_cross_entropy_with_logits,
            F.cross_entropy,
            F.huber_loss,
            F.l1_loss,
            F.mse_loss,
            F.poisson_nll_loss,
            F.smooth_l1_loss,
            F.soft_margin_loss,
        )
    )
    # nll_loss is linear in log-probabilities: its curvature is that of the log_softmax before.
    LOG_SOFTMAX = frozenset((F.log_softmax, torch.log_softmax, Tensor.log_softmax))

    def __init__(self) -> None:
        super().__init__()
        self.marked: list[Tensor] = []
        self.seen: list[Tensor] = []
        self.logits: list[Tensor] = []
        self.sums = False  # whether a loss was summed over its examples, not averaged

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands: list[Any] = [*args[:2], *kwargs.values()]
        tensors = [a for a in operands if isinstance(a, Tensor) and a.requires_grad]
        if func is network_output:
            self.marked += tensors
        elif func in self.LOSSES:
            self.seen += tensors
        elif func in self.LOG_SOFTMAX:
            self.logits = tensors
        elif func is F.nll_loss:
            self.seen += self.logits
        self.sums |= (func in self.LOSSES or func is F.nll_loss) and kwargs.get("reduction") == "sum"
        return func(*args, **kwargs)

    def outputs(self) -> list[Tensor]:
        """Each output once."""
        found = list({id(z): z for z in self.marked or self.seen}.values())
        if not found:
            raise ValueError(
                "loss_fn called none of torch's loss functions on a network's outputs, so nothing says where the network"
                " ends; mark its outputs with thalweg.curvature.network_output(z), or take the Hessian."
            )
        require_independent(found)
        return found


def require_independent(outputs: Sequence[Tensor]) -> None:
    """Refuse outputs of which one is computed from another: part of the curvature would count twice."""
    for z in outputs:
        others = [o for o in outputs if o is not z]
        found: Any = torch.autograd.grad(z.sum(), others, retain_graph=True, allow_unused=True) if others else ()
        if any(g is not None for g in found):
            raise ValueError(
                "loss_fn calls losses on outputs of which one is computed from another; mark the one where the network ends"
                " with thalweg.curvature.network_output(z)."
            )
