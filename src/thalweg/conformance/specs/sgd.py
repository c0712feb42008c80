"""SGD, held to torch's, and in its averaging form to a plain loop."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

from thalweg.conformance.spec import Spec


class EMA(torch.optim.Optimizer):
    """m ← βm + (1−β)g, p ← p − ηm, the textbook's form, one line each."""

    def __init__(self, params: Any, lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            for p in group["params"]:
                m: Tensor = self.state[p].setdefault("m", torch.zeros_like(p))
                m.copy_(group["momentum"] * m + (1 - group["momentum"]) * p.grad)
                p.sub_(group["lr"] * m)


SPECS = [
    Spec("sgd", SGD, 0.1),
    Spec("sgd", SGD, 0.1, {"weight_decay": 0.1, "maximize": True}),
    Spec("sgd", SGD, 0.1, {"momentum": 0.9}),
    Spec("sgd", SGD, 0.1, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    Spec("sgd", SGD, 0.1, {"momentum": 0.9, "nesterov": True}),
    Spec("sgd", EMA, 0.1, {"momentum": 0.9, "ema": True}, {"momentum": 0.9}),
]
