"""Adagrad, held to torch's, and with ε under the root to a plain loop."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Adagrad

from thalweg.conformance.spec import Spec


class InsideRoot(torch.optim.Optimizer):
    """G ← G + g², p ← p − ηg/√(G + ε): the course-note form, ε under the root."""

    def __init__(self, params: Any, lr: float, eps: float) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            for p in group["params"]:
                G: Tensor = self.state[p].setdefault("G", torch.zeros_like(p))
                G.add_(p.grad**2)
                p.sub_(group["lr"] * p.grad / torch.sqrt(G + group["eps"]))


SPECS = [
    Spec("adagrad", Adagrad, 0.1),
    Spec(
        "adagrad", Adagrad, 0.1, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}
    ),
    Spec("adagrad", InsideRoot, 0.1, {"eps_inside": True, "eps": 1e-3}, {"eps": 1e-3}),
]
