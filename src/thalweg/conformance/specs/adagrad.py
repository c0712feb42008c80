"""Adagrad, held to torch's, and with ε under the root to a plain loop."""

import torch
from torch import Tensor
from torch.optim import Adagrad

from thalweg.conformance.loop import Loop
from thalweg.conformance.spec import Spec


class InsideRoot(Loop):
    """G ← G + g², p ← p − ηg/√(G + ε): the course-note form, ε under the root."""

    def one(self, s: dict[str, Tensor], p: Tensor, g: Tensor, t: int, eps: float) -> None:
        """One step of one parameter."""
        G = s.setdefault("G", torch.zeros_like(p))
        G.add_(g**2)
        p.sub_(self.lr * g / torch.sqrt(G + eps))


SPECS = [
    Spec("adagrad", Adagrad, 0.1),
    Spec(
        "adagrad", Adagrad, 0.1, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3}
    ),
    Spec("adagrad", InsideRoot, 0.1, {"eps_inside": True, "eps": 1e-3}, {"eps": 1e-3}),
]
