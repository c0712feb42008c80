"""ExMachina, held to a plain loop: a transcription, one tensor at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thalweg.conformance.loop import Loop, by_row, rms_clip
from thalweg.conformance.spec import Spec

DEFAULTS: dict[str, Any] = dict(
    b1=0.999,
    b2=0.9999,
    bm=0.9999,
    eps=1e-6,
    eps2=1e-2,
    floor=None,
    wd=0.01,
    mult=1.0,
    lam=0.25,
    gamma=5e-4,
    clip=1.0,
    cen=0.0,
    cautious=True,
)


class FMARSCrop(Loop):
    """The public algorithm."""

    def one(self, s: dict[str, Tensor], p: Tensor, g: Tensor, t: int, **h: Any) -> None:
        """One step of one parameter."""
        c_ = DEFAULTS | h
        b1, b2, bm = c_["b1"], c_["b2"], c_["bm"]
        if t == 1:
            s |= {"m": torch.zeros_like(g), "F": torch.ones_like(g), "Fd": torch.ones_like(g), "g": g}
        eps = c_["eps"]
        if c_["floor"] is not None and c_["floor"] < eps:
            eps = max(min(eps, c_["eps2"] * float((g**2).mean().sqrt())), c_["floor"])
        crop, change = t**0.25, g - s["g"]
        s["g"] = g
        c = g + c_["gamma"] * b1 / (1 - b1) * change
        norm = float(c.norm())
        c = c * c_["clip"] / norm if norm > c_["clip"] else c
        d = s["Fd"].sqrt().clamp(min=eps)
        s["Fd"] = (b1 * s["Fd"] + (1 - b1) * rms_clip(c_["mult"] * change) ** 2).clamp(-crop, crop)
        a = s["F"].sqrt().clamp(min=eps)
        natural = rms_clip(c / (a * d))
        u = natural + t ** c_["lam"] * (s["m"] - s["m"].mean())
        if c_["cen"] and p.ndim > 1:
            u = by_row(u, lambda r: r - c_["cen"] * r.mean())
        p.sub_(self.lr * c_["wd"] * rms_clip(p / (a * d)))
        if c_["cautious"]:
            k = (u * c > 0).to(u.dtype)
            u = u * k * k.numel() / (k.sum() + 1)
        p.sub_(self.lr * u)
        beta = ((b2**t - b2) / (b2**t - 1)) ** 0.5
        s["F"] = (beta * s["F"] + (1 - beta) * rms_clip(c / d) ** 2).clamp(-crop, crop)
        s["m"] = bm * s["m"] + (1 - bm) * natural


SPECS = [
    Spec("exmachina", FMARSCrop, 1e-3, {}, {}),
    Spec(
        "exmachina",
        FMARSCrop,
        1e-2,
        {
            "betas": (0.9, 0.99),
            "momentum_beta": 0.9,
            "gamma": 0.02,
            "eps_floor": 1e-9,
            "momentum_lambda": 0.5,
            "clip": 0.3,
        },
        {"b1": 0.9, "b2": 0.99, "bm": 0.9, "gamma": 0.02, "floor": 1e-9, "lam": 0.5, "clip": 0.3},
    ),
    Spec(
        "exmachina",
        FMARSCrop,
        1e-2,
        {"variant": "published", "cautious": False, "centralization": 0.5, "weight_decay": 0.1, "diff_mult": 3.0},
        {"cautious": False, "cen": 0.5, "wd": 0.1, "mult": 3.0},
    ),
]
