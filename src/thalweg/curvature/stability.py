"""LOCAL STAND-IN, never committed."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer

from thalweg.curvature.operators import Operator
from thalweg.curvature.space import joined


class Preconditioned(Operator):
    def __init__(self, inner: Operator, root: Tensor) -> None:
        self.inner_op, self.root = inner, root
        self.space, self.cost, self.method = inner.space, inner.cost, inner.method

    def product(self, v: Tensor) -> Tensor:
        return self.inner_op.matvec(v / self.root) / self.root


def preconditioned(operator: Operator, optimizer: Optimizer) -> Operator:
    if type(optimizer).__name__ in ("SGD", "SGDScheduleFree"):
        return operator
    parts: list[Tensor] = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            s = optimizer.state[p]
            if "exp_avg_sq" not in s:
                raise ValueError("no state before the first step")
            b2 = group["betas"][1]
            parts.append(((s["exp_avg_sq"] / (1 - b2 ** float(s["step"]))).sqrt() + group["eps"]).sqrt())
    return Preconditioned(operator, joined(parts))


def stability_threshold(optimizer: Optimizer) -> list[float]:
    if type(optimizer).__name__ == "SGD":
        return [(2 + 2 * g.get("momentum", 0)) / g["lr"] if g["lr"] else float("inf") for g in optimizer.param_groups]
    return [38 / g["lr"] if g["lr"] else float("inf") for g in optimizer.param_groups]
