"""The options written a second time, plainly: one tensor at a time, around torch's own optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def rows(x: Tensor) -> Tensor:
    """One row an output unit; a vector is one row."""
    return x.reshape(x.shape[0], -1) if x.ndim > 1 else x.reshape(1, -1)


def clip_norm(g: Tensor, p: Tensor, c: float) -> Tensor:
    return g * min(1.0, c / (float(g.norm()) + 1e-6))


def clip_rms(g: Tensor, p: Tensor, c: float) -> Tensor:
    return g * c / max(c, float(g.pow(2).mean().sqrt()))


def clip_adaptive(g: Tensor, p: Tensor, c: float) -> Tensor:
    out = []
    for g_row, p_row in zip(rows(g), rows(p), strict=True):
        bound = c * max(float(p_row.norm()), 1e-3)
        norm = max(float(g_row.norm()), 1e-6)
        out.append(g_row * min(1.0, bound / norm))
    return torch.stack(out).reshape(g.shape)


def centralize(g: Tensor, p: Tensor, s: float) -> Tensor:
    if g.ndim < 2 or rows(g).shape[1] == 1:
        return g
    return torch.stack([row - s * sum(row.tolist()) / len(row) for row in rows(g)]).reshape(g.shape)


def normalize(g: Tensor, p: Tensor, s: float) -> Tensor:
    if rows(g).shape[1] < (2 if g.ndim > 1 else 3):
        return g
    return torch.stack([(1 - s) * row + s * row / (row.std() + 1e-8) for row in rows(g)]).reshape(g.shape)


GRADIENT: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "norm": clip_norm,
    "rms": clip_rms,
    "adaptive": clip_adaptive,
    "centralize": centralize,
    "normalize": normalize,
}


class Naive(torch.optim.Optimizer):
    """``oracle`` with thalweg's options around it.  The oracle must be given lr, and no weight decay of its own."""

    def __init__(
        self, oracle: Callable[..., torch.optim.Optimizer], params: Sequence[Tensor], lr: float, **options: Any
    ):
        super().__init__(params, {})
        self.params, self.lr, self.options = list(params), lr, options
        self.inner = oracle(params, lr=lr)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        given = [p.grad.clone() for p in self.params]
        if "clip" in self.options:
            kind, c = self.options["clip"]
            if kind == "global_norm":
                torch.nn.utils.clip_grad_norm_(self.params, c)
            elif kind == "value":
                torch.nn.utils.clip_grad_value_(self.params, c)
            else:
                self._change(GRADIENT[kind], c)
        for name in ("centralize", "normalize"):
            if name in self.options:
                self._change(GRADIENT[name], self.options[name])
        decay, strength = self.options.get("decay"), self.options.get("weight_decay", 0.0)
        if decay == "l2":
            self._change(lambda g, p, c: g + c * p, strength)

        before = [p.clone() for p in self.params]
        self.inner.step()
        for p, old, g in zip(self.params, before, given, strict=True):
            if not p.numel():
                continue
            u = (old - p) / self.lr
            if self.options.get("cautious"):
                keep = (u * g > 0).to(u.dtype)
                u = u * keep / max(float(keep.mean()), 1e-3)
            acts = (u * old >= 0).to(u.dtype) if decay == "cautious" else 1.0
            p.copy_(
                old - self.lr * u - (self.lr * strength * acts * old if decay in ("cautious", "decoupled") else 0.0)
            )

    def _change(self, function: Callable[[Tensor, Tensor, float], Tensor], c: float) -> None:
        for p in self.params:
            if p.numel():
                p.grad = function(p.grad, p, c)
