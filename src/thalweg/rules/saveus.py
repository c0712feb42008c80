"""SAVEUS: Adam on a gradient that is centralized, normalized, and amplified by its own average."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal, Unpack, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core import parts
from thalweg.core.allowed import Choice, Maybe, finite, fractions, nonnegative
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Scalar, rule, zeros
from thalweg.rules.adam import denominator

ALLOWED = {"betas": fractions, "eps": nonnegative, "amp_fac": finite, "clip_power": Maybe(nonnegative)}


@rule(denominator=denominator, exp_avg=zeros, exp_avg_sq=zeros, allowed=ALLOWED)
def saveus(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    betas: tuple[Scalar, Scalar],
    eps: Scalar,
    amp_fac: Scalar,
    clip_power: Scalar | None,
) -> Tensor:
    """h = g + α m̂, u = h / (√v̂ + ε), v over h²: the stable form, with both averages corrected for their start at zero."""
    b1, b2 = betas
    m = exp_avg.lerp_(g, 1 - b1)  # m ← β₁m + (1−β₁)g
    h = g + m * (amp_fac / (1 - b1**t))
    v = exp_avg_sq.lerp_(h * h, 1 - b2)  # v ← β₂v + (1−β₂)h²
    if clip_power is not None:
        h = torch.clamp(h, min=-(t**clip_power), max=t**clip_power)
    return h / denominator(t, exp_avg_sq=v, betas=betas, eps=eps)


@rule(
    denominator=denominator,
    exp_avg=zeros,
    exp_avg_sq=zeros,
    allowed=ALLOWED | {"decay": Choice(("l2", "decoupled"))},
    reach="tensor",
)
def published(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    centralize: Scalar,
    normalize: Scalar,
    normalize_channels: bool,
    betas: tuple[Scalar, Scalar],
    eps: Scalar,
    amp_fac: Scalar,
    clip_power: Scalar | None,
    decay: str,
    weight_decay: Scalar,
) -> Tensor:
    """The public code's steps: m is not corrected, and 1/(1−β₁ᵗ) multiplies the whole step, ten times η at first."""
    b1, b2 = betas
    g = parts.as_published(g, centralize, normalize, channels=normalize_channels)
    m = exp_avg.lerp_(g, 1 - b1)
    h = g + m * amp_fac
    v = exp_avg_sq.lerp_(h * h, 1 - b2)
    if decay == "l2":
        h = h + p * weight_decay
    if clip_power is not None:
        h = torch.clamp(h, min=-(t**clip_power), max=t**clip_power)
    u = h / denominator(t, exp_avg_sq=v, betas=betas, eps=eps)
    if decay == "decoupled":
        u = u + p * weight_decay
    return u / (1 - b1**t)


def roots(t: Scalar, exp_avg_sq: Tensor, b2: Scalar, eps: Scalar) -> tuple[Tensor, Tensor]:
    """√v̂ and √v̂ + ε, by both of which the document as printed divides."""
    root = (exp_avg_sq / (1 - b2**t)).sqrt()
    return torch.clamp(root, min=torch.finfo(root.dtype).tiny), root + eps  # 0 where the printed form is 0/0


def squared(t: Scalar, *, exp_avg_sq: Tensor, betas: tuple[Scalar, Scalar], eps: Scalar) -> Tensor:
    """P = √v̂ (√v̂ + ε)."""
    first, second = roots(t, exp_avg_sq, betas[1], eps)
    return first * second


@rule(denominator=squared, exp_avg=zeros, exp_avg_sq=zeros, allowed=ALLOWED)
def equations(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    betas: tuple[Scalar, Scalar],
    eps: Scalar,
    amp_fac: Scalar,
) -> Tensor:
    """h = g + α m, u = h / √v̂ / (√v̂ + ε): as the document prints it, which divides twice by the root."""
    b1, b2 = betas
    m = exp_avg.lerp_(g, 1 - b1)
    h = g + m * amp_fac
    first, second = roots(t, exp_avg_sq.lerp_(h * h, 1 - b2), b2, eps)
    return h / first / second


class SAVEUS(Optimizer, rule={"stable": saveus, "published": published, "equations": equations}):
    """Stochastic adaptive variance estimation with unified scaling; "Compass" with gradient centralization and normalization.

    ``m ← β₁m + (1−β₁)g̃,  h = g̃ + α m̂,  v ← β₂v + (1−β₂)h²,  p ← p − η h/(√v̂ + ε)``

    g̃ is the gradient with part of its row means taken out and partly divided by the standard deviation of its rows.  With
    α = 2 the average weighs twice as much as the gradient itself: momentum without giving up the newest gradient.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        betas: decay rates β₁, β₂ of the two averages, in [0, 1).
        eps: added to √v̂.
        weight_decay: strength λ of the decay: on the gradient, or with ``decay="decoupled"`` on the parameter.
        centralization: how much of each row's mean is taken out of the gradient, in [0, 1]; the option ``centralize``.
        normalization: how much of the gradient is divided by its standard deviation, in [0, 1]; the option ``normalize``.
        amp_fac: α, the weight of the average.
        clip_power: a bounds h to ±tᵃ, element by element; None does not.  The document's schedule is 0.25.
        variant: ``"stable"`` corrects m for its start at zero; ``"published"`` is the public code, which instead divides the
            whole step by 1 − β₁ᵗ and so starts with steps of 10 η, and normalizes fully whatever ``normalization``, unless it
            is 0; ``"equations"`` is the document as printed, whose steps grow as the gradient shrinks.
        options: see ``thalweg.Options``.
    """

    aliases: ClassVar[dict[str, str]] = {"centralization": "centralize", "normalization": "normalize"}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        centralization: float = 0.5,
        normalization: float = 0.5,
        amp_fac: float = 2.0,
        clip_power: float | None = None,
        variant: Literal["stable", "published", "equations"] = "stable",
        **options: Unpack[Options],
    ) -> None:
        own = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amp_fac=amp_fac, clip_power=clip_power)
        shared = dict(centralize=centralization, normalize=normalization)
        super().__init__(params, own | {"variant": variant}, cast(Options, shared | options))

    @classmethod
    def advise(cls, group: dict[str, Any]) -> None:
        """Warns of a variant that is unsafe at any values."""
        if group["variant"] == "equations":
            warnings.warn(
                "SAVEUS: variant='equations' divides by the root of v twice: its steps grow without bound as the gradient"
                ' shrinks; those of variant="stable" do not.',
                stacklevel=4,
            )
