"""SAVEUS in its three variants, held to plain loops: transcriptions, one tensor at a time."""

from __future__ import annotations

from torch import Tensor

from thalweg.conformance.loop import Loop, ema, processed, processed_as_published
from thalweg.conformance.spec import Spec


class StableSAVEUS(Loop):
    """The stable variant."""

    def one(
        self,
        s: dict[str, Tensor],
        p: Tensor,
        g: Tensor,
        t: int,
        cen: float = 0.5,
        norm: float = 0.5,
        amp: float = 2.0,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
        wd: float = 0.0,
        clip: float | None = None,
    ) -> None:
        """One step of one parameter."""
        g = processed(g, cen, norm)
        p.mul_(1 - self.lr * wd)
        m = ema(s, "m", g, b1)
        h = g + amp * m / (1 - b1**t)
        v = ema(s, "v", h**2, b2)
        h = h.clamp(-(t**clip), t**clip) if clip is not None else h
        p.sub_(self.lr * h / ((v / (1 - b2**t)).sqrt() + eps))


class PublishedSAVEUS(Loop):
    """The public algorithm."""

    def one(
        self,
        s: dict[str, Tensor],
        p: Tensor,
        g: Tensor,
        t: int,
        cen: float = 0.5,
        norm: float = 0.5,
        amp: float = 2.0,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
        wd: float = 0.0,
        coupled: bool = True,
        clip: float | None = None,
    ) -> None:
        """One step of one parameter."""
        g = processed_as_published(g, cen, norm)
        m = ema(s, "m", g, b1)
        h = g + amp * m
        v = ema(s, "v", h**2, b2)
        step = self.lr / (1 - b1**t)
        if coupled:
            h = h + wd * p
        else:
            p.mul_(1 - step * wd)
        h = h.clamp(-(t**clip), t**clip) if clip is not None else h
        p.sub_(step * h / (v.sqrt() / (1 - b2**t) ** 0.5 + eps))


class PrintedSAVEUS(Loop):
    """The formulas as printed."""

    def one(
        self,
        s: dict[str, Tensor],
        p: Tensor,
        g: Tensor,
        t: int,
        cen: float = 0.5,
        norm: float = 0.5,
        amp: float = 2.0,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        """One step of one parameter."""
        g = processed(g, cen, norm)
        m = ema(s, "m", g, b1)
        h = g + amp * m
        v = ema(s, "v", h**2, b2)
        v_hat = v / (1 - b2**t)
        p.sub_(self.lr / (v_hat.sqrt() + eps) * h / v_hat.sqrt())


NEAR_ZERO = 1e-4  # the printed form divides by the root of a v that may be near zero, twice
SPECS = [
    Spec("saveus", StableSAVEUS, 1e-2, {}, {}),
    Spec(
        "saveus",
        StableSAVEUS,
        1e-2,
        {"centralization": 1.0, "normalization": 0.0, "amp_fac": 5.0, "betas": (0.8, 0.99), "clip_power": 0.25}
        | {"weight_decay": 0.1, "decay": "decoupled"},
        {"cen": 1.0, "norm": 0.0, "amp": 5.0, "b1": 0.8, "b2": 0.99, "clip": 0.25, "wd": 0.1},
    ),
    Spec("saveus", PublishedSAVEUS, 1e-2, {"variant": "published"}, {}),
    Spec(
        "saveus",
        PublishedSAVEUS,
        1e-3,
        {"variant": "published", "weight_decay": 0.1, "clip_power": 0.25, "amp_fac": 5.0},
        {"wd": 0.1, "clip": 0.25, "amp": 5.0},
        1e-2,  # the decay of a weight is divided by √v, however small: float32 itself is 6e-4 from float64
    ),
    Spec(
        "saveus",
        PublishedSAVEUS,
        1e-2,
        {
            "variant": "published",
            "weight_decay": 0.1,
            "decay": "decoupled",
            "centralization": 0.0,
            "normalization": 0.0,
        },
        {"wd": 0.1, "coupled": False, "cen": 0.0, "norm": 0.0},
    ),
    Spec("saveus", PrintedSAVEUS, 1e-4, {"variant": "equations"}, {}, NEAR_ZERO),
    Spec(
        "saveus",
        PrintedSAVEUS,
        1e-4,
        {"variant": "equations", "betas": (0.5, 0.9), "amp_fac": 0.5, "centralization": 1.0, "normalization": 1.0},
        {"b1": 0.5, "b2": 0.9, "amp": 0.5, "cen": 1.0, "norm": 1.0},
        NEAR_ZERO,
    ),
    Spec(
        "saveus",
        PrintedSAVEUS,
        1e-4,
        {"variant": "equations", "eps": 1e-3, "amp_fac": 5.0, "centralization": 0.0, "normalization": 0.0},
        {"eps": 1e-3, "amp": 5.0, "cen": 0.0, "norm": 0.0},
        NEAR_ZERO,
    ),
]
