"""DOPE in its three variants, held to plain loops: transcriptions, one tensor at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thalweg.conformance.loop import Loop, by_row, ema, processed, processed_as_published, rms_clip
from thalweg.conformance.spec import Spec

DEFAULTS: dict[str, Any] = dict(
    b1=0.999,
    b2=0.9999,
    bm=0.9999,
    eps=1e-6,
    eps2=1e-2,
    floor=None,
    wd=0.01,
    cen=0.5,
    norm=0.5,
    channels=True,
    mult=1.0,
    lam=0.25,
    cap=10.0,
    gamma=5e-4,
    clip=1.0,
    power=0.5,
    cautious=True,
)


class StableDOPE(Loop):
    """The stable variant."""

    def one(self, s: dict[str, Tensor], p: Tensor, g: Tensor, t: int, **h: Any) -> None:
        """One step of one parameter."""
        c_ = DEFAULTS | h
        raw, g = g, processed(g, c_["cen"], c_["norm"], channels=c_["channels"])
        change = g - s["g"] if t > 1 else torch.zeros_like(g)
        s["g"] = g
        c = g + c_["gamma"] * c_["b1"] / (1 - c_["b1"]) * change
        eps = c_["eps"]
        if c_["floor"] is not None:
            eps = max(min(c_["eps2"] * float((g**2).mean().sqrt()), eps), c_["floor"])
        a = (ema(s, "F", g**2, c_["b2"]) / (1 - c_["b2"] ** t)) ** c_["power"] + eps
        if c_["mult"]:
            diff = ema(s, "Fd", (c_["mult"] * change) ** 2, c_["b1"])
            if t > 1:
                a = a * ((diff / (1 - c_["b1"] ** (t - 1))) ** c_["power"] + eps)
        natural = rms_clip(c / a, c_["clip"])
        m = ema(s, "m", natural, c_["bm"])
        u = natural + min(t ** c_["lam"], c_["cap"]) * (m - m.mean())
        if c_["cautious"]:
            k = (u * raw > 0).to(u.dtype)
            u = u * k / max(float(k.mean()), 1e-3)
        p.copy_(p - self.lr * c_["wd"] * rms_clip(p / a) - self.lr * u)


class PublishedDOPE(Loop):
    """The public algorithm."""

    def one(self, s: dict[str, Tensor], p: Tensor, g: Tensor, t: int, **h: Any) -> None:
        """One step of one parameter."""
        c_ = DEFAULTS | h
        g = processed_as_published(g, c_["cen"], c_["norm"])
        norm = float((g**2).sum()) ** 0.5
        g = g * min(1.0, c_["clip"] / norm) if norm else g
        change = g - s.get("g", torch.zeros_like(g))
        s["g"] = g
        eps = c_["eps"] if c_["floor"] is None else max(c_["floor"], c_["eps"] * t**0.5)
        a = ema(s, "F", g**2, c_["b2"]).sqrt() / (1 - c_["b2"] ** t) ** 0.5 + eps
        d = c_["mult"] * ema(s, "Fd", change**2, c_["b1"]).sqrt() / (1 - c_["b1"] ** t) ** 0.5 + c_["eps2"]
        c = g / (a * d) + c_["gamma"] * c_["b1"] / (1 - c_["b1"]) * g
        m = c_["bm"] * s.get("m", torch.zeros_like(g)) + (1 - c_["bm"]) * c
        s["m"] = m = by_row(m, lambda r: r - r.mean())
        u = c + c_["lam"] * t ** c_["lam"] * m
        if c_["cautious"]:
            k = (u * g > 0).to(u.dtype)
            u = u * k * k.numel() / (k.sum() + 1e-8)
        p.copy_(p - self.lr * c_["wd"] * p / (a * d) - self.lr * u)


class PrintedDOPE(Loop):
    """The formulas as printed."""

    def one(self, s: dict[str, Tensor], p: Tensor, g: Tensor, t: int, **h: Any) -> None:
        """One step of one parameter."""
        c_ = DEFAULTS | h
        before = s.get("g", torch.zeros_like(g))
        s["g"] = g
        tilde = processed(g, c_["cen"], c_["norm"])
        f = (ema(s, "F", tilde**2, c_["b2"]) + c_["eps"]).sqrt()
        fd = (ema(s, "Fd", (g - before) ** 2, c_["b1"]) + c_["eps"]).sqrt()
        natural = tilde / f / fd
        m = ema(s, "m", natural, c_["bm"])
        c = natural + c_["gamma"] * c_["b1"] / (1 - c_["b1"]) * before
        u = c + t ** c_["lam"] * (m - m.mean())
        k = (u * c > 0).to(u.dtype)
        u = u * k * k.numel() / k.sum() if c_["cautious"] else u
        p.copy_(p - self.lr * u - self.lr * c_["wd"] * p / (f * fd))


SHORT = {"betas": (0.9, 0.99), "momentum_beta": 0.9}
SHORT_ = {"b1": 0.9, "b2": 0.99, "bm": 0.9}
# Where update and gradient nearly disagree, float32's rounding decides whether an element moves at all, by η; the published
# and printed forms divide by roots that may be near zero.
JUMPS = 1e-2
SPECS = [
    Spec("dope", StableDOPE, 1e-3, {}, {}, JUMPS),
    Spec(
        "dope",
        StableDOPE,
        1e-2,
        SHORT | {"gamma": 0.02, "eps_floor": 1e-9, "momentum_lambda": 0.5, "amplification_cap": 3.0, "clip": 0.5},
        SHORT_ | {"gamma": 0.02, "floor": 1e-9, "lam": 0.5, "cap": 3.0, "clip": 0.5},
        JUMPS,
    ),
    Spec(
        "dope",
        StableDOPE,
        1e-2,
        SHORT
        | {"diff_mult": 0.0, "gamma": 0.0, "power": 0.75, "weight_decay": 0.1}
        | {"centralization": 0.0, "normalization": 0.0, "cautious": False},
        SHORT_ | {"mult": 0.0, "gamma": 0.0, "power": 0.75, "cen": 0.0, "norm": 0.0, "cautious": False, "wd": 0.1},
    ),
    Spec("dope", PublishedDOPE, 1e-6, {"variant": "published"}, {}, JUMPS),
    Spec(
        "dope",
        PublishedDOPE,
        1e-3,
        SHORT | {"variant": "published", "eps_floor": 1e-3, "weight_decay": 0.0, "clip": 0.3, "diff_mult": 2.0},
        SHORT_ | {"floor": 1e-3, "wd": 0.0, "clip": 0.3, "mult": 2.0},
        JUMPS,
    ),
    Spec(
        "dope",
        PublishedDOPE,
        1e-5,
        {"variant": "published", "normalization": 0.0, "centralization": 1.0, "cautious": False, "gamma": 0.02},
        {"norm": 0.0, "cen": 1.0, "cautious": False, "gamma": 0.02},
        JUMPS,
    ),
    Spec("dope", PrintedDOPE, 1e-6, {"variant": "equations"}, {}, JUMPS),
    Spec(
        "dope",
        PrintedDOPE,
        1e-3,
        SHORT | {"variant": "equations", "weight_decay": 0.0, "gamma": 0.02, "eps": 1e-3},
        SHORT_ | {"wd": 0.0, "gamma": 0.02, "eps": 1e-3},
        JUMPS,
    ),
    Spec(
        "dope",
        PrintedDOPE,
        1e-4,
        {"variant": "equations", "cautious": False, "momentum_lambda": 0.5}
        | {"centralization": 1.0, "normalization": 1.0},
        {"cautious": False, "cen": 1.0, "norm": 1.0, "lam": 0.5},
        JUMPS,
    ),
]
