"""Limited-memory BFGS: torch's own, taking a loss function as every second-order optimizer here does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.curvature.cost import Cost

# Without the hooks that torch puts around a class's step once it has an instance; ours has run them.
torch_step = inspect.unwrap(cast(Callable[..., Any], torch.optim.LBFGS.step))


class LBFGS(torch.optim.LBFGS):
    """``torch.optim.LBFGS``, whose ``step`` takes a loss function without backward, or torch's closure.

    ``p ← p + ηd,  d = −Hg``, H the inverse Hessian of the secant equations of the last ``history_size`` steps.
    Nocedal & Wright 2006, Algorithms 7.4 and 7.5.

    Args:
        params: parameters, one group of them.
        lr: η; with a line search, the length that is tried first.
        max_iter: directions a step.
        max_eval: evaluations a step at most; 1.25 × ``max_iter`` if None.
        tolerance_grad: ends a step when no element of the gradient is larger.
        tolerance_change: ends a step when the loss or the parameters change by less.
        history_size: how many steps are remembered.
        line_search_fn: ``"strong_wolfe"`` or None.

    Attributes:
        used: ``Cost`` of the last step.
    """

    used = Cost()

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        super().__init__(params, lr, max_iter, max_eval, tolerance_grad, tolerance_change, history_size, line_search_fn)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor | float]) -> Tensor | float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; returns the loss before it.

        Args:
            closure: returns the loss, and may call backward; if it has written no gradient, that is done here.
        """
        self.used, params = Cost(), [p for p in self.param_groups[0]["params"] if p.requires_grad]

        def evaluate() -> Tensor | float:
            self.used.gradients += 1
            for p in params:
                p.grad = None
            loss = closure()
            if all(p.grad is None for p in params):
                if not isinstance(loss, Tensor):
                    raise TypeError(f"LBFGS: the closure wrote no gradient and returned {loss!r}, which has no graph.")
                cast(Any, loss).backward(inputs=params)
            return loss

        return torch_step(self, evaluate)
