"""What an oracle of our own is: a loop over parameters, and one step of one of them."""

from __future__ import annotations

from typing import Any

import torch


class Loop(torch.optim.Optimizer):
    """Calls ``one(state, p, g, **hyperparameters)``, a method of the subclass that moves ``p``, for each parameter."""

    one: Any

    def __init__(self, params: Any, **hyperparameters: float) -> None:
        super().__init__(params, hyperparameters)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step."""
        for group in self.param_groups:
            for p in group["params"]:
                self.one(self.state[p], p, p.grad, **{name: group[name] for name in self.defaults})
