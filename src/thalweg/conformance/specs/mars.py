"""MARS, held to plain loops."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thalweg.conformance.loop import Loop, ema
from thalweg.conformance.spec import Spec
from thalweg.conformance.specs.muon import orthogonal


class PlainMARS(Loop):
    """MARS on tensors with two dimensions or more, AdamW on the others."""

    def one(
        self,
        s: dict[str, Tensor],
        p: Tensor,
        g: Tensor,
        t: int,
        gamma: float = 0.025,
        b: Any = (0.95, 0.99),
        b_1d: Any = (0.9, 0.95),
        lr_1d: float = 3e-3,
        eps: float = 1e-8,
        wd: float = 0.0,
        form: str = "adamw",
        all_: bool = False,
    ) -> None:
        """One step of one parameter."""
        takes_part = p.ndim > 1 or all_
        (b1, b2), lr = (b, self.lr) if takes_part else (b_1d, lr_1d)
        p.mul_(1 - lr * wd)
        c = g
        if takes_part:
            c = g + gamma * b1 / (1 - b1) * (g - s.get("g", g))
            c = c / max(1.0, float(c.norm()))
        s["g"] = g
        m = ema(s, "m", c, b1)
        if form == "lion" and takes_part:
            p.sub_(lr * m.sign())
            return
        if form == "shampoo" and takes_part:
            matrix = m.reshape(len(m) if m.ndim else 1, -1)
            p.sub_(lr * max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5 * orthogonal(matrix, eps).reshape(p.shape))
            return
        v = ema(s, "v", c**2, b2)
        p.sub_(lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps))


SPECS = [
    Spec("mars", PlainMARS, 3e-3, {}, {}),
    Spec(
        "mars",
        PlainMARS,
        1e-2,
        {"gamma": 0.1, "betas": (0.8, 0.9), "betas_1d": (0.5, 0.9), "lr_1d": 1e-3, "eps": 1e-4, "optimize_1d": True},
        {"gamma": 0.1, "b": (0.8, 0.9), "b_1d": (0.5, 0.9), "lr_1d": 1e-3, "eps": 1e-4, "all_": True},
    ),
    Spec("mars", PlainMARS, 1e-2, {"lr_1d": 1e-3}, {"lr_1d": 1e-3}),
    Spec("mars", PlainMARS, 1e-3, {"variant": "lion", "lr_1d": 1e-3}, {"form": "lion", "lr_1d": 1e-3}),
    Spec("mars", PlainMARS, 1e-2, {"variant": "shampoo", "lr_1d": 1e-3}, {"form": "shampoo", "lr_1d": 1e-3}, 1e-5),
    Spec(
        "mars",
        PlainMARS,
        1e-2,
        {"variant": "shampoo", "optimize_1d": True, "betas": (0.5, 0.99)},
        {"form": "shampoo", "all_": True, "b": (0.5, 0.99)},
        1e-5,
    ),
]
