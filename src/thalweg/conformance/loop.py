"""What our own oracles are made of: a loop over parameters, rows and their statistics, averages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor


def rows(x: Tensor) -> list[Tensor]:
    """The rows of a tensor; a vector or a number is one."""
    return list(x.reshape(x.shape[0], -1)) if x.ndim > 1 else [x.reshape(-1)]


def by_row(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """``f`` of each row."""
    return torch.stack([f(row) for row in rows(x)]).reshape(x.shape)


def deviation(row: Tensor) -> float:
    """The unbiased standard deviation."""
    values = cast("list[float]", row.tolist())
    mean = sum(values) / len(values)
    return (sum((x - mean) ** 2 for x in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else float("nan")


def processed(g: Tensor, cen: float, norm: float, *, channels: bool = True) -> Tensor:
    """Centralization and normalization as the stable variants have them."""
    if g.ndim > 1 and len(rows(g)[0]) > 1:
        g = by_row(g, lambda r: r - cen * r.mean())
    if not channels:
        s = deviation(g.reshape(-1))
        return (1 - norm) * g + norm * g / (s + 1e-8) if g.numel() > 2 else g
    if len(rows(g)[0]) >= (2 if g.ndim > 1 else 3):
        g = by_row(g, lambda r: (1 - norm) * r + norm * r / (deviation(r) + 1e-8))
    return g


def processed_as_published(g: Tensor, cen: float, norm: float) -> Tensor:
    """The same as the public code has them."""
    g = by_row(g, lambda r: r - cen * r.mean())
    if norm > 0 and (g.ndim > 1 or g.numel() > 2):
        g = by_row(g, lambda r: r / (deviation(r) + 1e-8))
    return g


class Loop(torch.optim.Optimizer):
    """Calls ``one(state, p, g, t, **hyperparameters)``, a method of the subclass that moves p, for each parameter."""

    one: Any

    def __init__(self, params: Any, lr: float, **h: Any) -> None:
        super().__init__(params, {})
        self.lr, self.h, self.t = lr, h, 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step."""
        self.t += 1
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.numel():
                    self.one(self.state[p], p, p.grad.clone(), self.t, **self.h)


def ema(s: dict[str, Tensor], name: str, x: Tensor, beta: float, start: float = 0.0) -> Tensor:
    """Keep and return βs + (1−β)x."""
    s[name] = beta * s.get(name, torch.full_like(x, start)) + (1 - beta) * x
    return s[name]


def rms_clip(x: Tensor, bound: float = 1.0) -> Tensor:
    """R(x)."""
    return x * bound / max(bound, float((x**2).mean().sqrt()))
