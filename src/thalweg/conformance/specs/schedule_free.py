"""Schedule-free AdamW and SGD, held to loops over x, y and z."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from thalweg.conformance.loop import Loop, ema
from thalweg.conformance.spec import Spec


class PlainScheduleFree(Loop):
    """The three sequences as they are printed; each parameter counts its own steps."""

    def one(
        self,
        s: dict[str, Any],
        p: Tensor,
        g: Tensor,
        t: int,
        beta: float = 0.9,
        beta2: float | None = 0.999,
        eps: float = 1e-8,
        wd: float = 0.0,
        warmup: int = 0,
        r: float = 0.0,
        power: float = 2.0,
    ) -> None:
        """One step of one parameter."""
        if t == 1:
            s |= {"z": p.clone(), "sum": 0.0, "max": 0.0}
        x = (p - (1 - beta) * s["z"]) / beta  # of the parameter as it was rounded
        lr = self.lr * min(1.0, t / warmup) if warmup else self.lr
        s["max"] = max(s["max"], lr)
        w = t**r * s["max"] ** power
        s["sum"] += w
        c = w / s["sum"] if s["sum"] else 0.0
        u = g + wd * p
        if beta2 is not None:
            u = g / ((ema(s, "v", g**2, beta2) / (1 - beta2**t)).sqrt() + eps) + wd * p
        s["z"] = s["z"] - lr * u
        x = (1 - c) * x + c * s["z"]
        p.copy_(beta * x + (1 - beta) * s["z"])


SPECS = [
    Spec("adamw_schedule_free", PlainScheduleFree, 0.0025),
    Spec(
        "adamw_schedule_free",
        PlainScheduleFree,
        0.01,
        {"betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1, "warmup_steps": 20, "r": 1.0, "weight_lr_power": 0.0},
        {"beta": 0.8, "beta2": 0.95, "eps": 1e-4, "wd": 0.1, "warmup": 20, "r": 1.0, "power": 0.0},
    ),
    Spec("sgd_schedule_free", PlainScheduleFree, 1.0, {}, {"beta2": None}),
    Spec(
        "sgd_schedule_free",
        PlainScheduleFree,
        0.3,
        {"momentum": 0.5, "weight_decay": 0.1, "warmup_steps": 20, "r": 2.0},
        {"beta": 0.5, "beta2": None, "wd": 0.1, "warmup": 20, "r": 2.0},
    ),
    Spec("sgd", PlainScheduleFree, 0.3, {"average": ("schedule_free", 0.95)}, {"beta": 0.95, "beta2": None}),
]
