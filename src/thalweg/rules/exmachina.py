"""ExMachina (FMARSCrop): MARS's corrected gradient under two Fisher estimates, the parent of DOPE."""

from __future__ import annotations

from typing import ClassVar, Literal, Unpack, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core import parts
from thalweg.core.allowed import Maybe, finite, fraction, fractions, nonnegative, portion
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Clip, Options, OptionsButClip, split_clip
from thalweg.core.rule import Scalar, State, rule, zeros

ones = State(fill=1.0)
ALLOWED = {
    "betas": fractions,
    "momentum_beta": fraction,
    "eps": nonnegative,
    "eps2": nonnegative,
    "eps_floor": Maybe(nonnegative),
    "diff_mult": nonnegative,
    "momentum_lambda": finite,
    "gamma": nonnegative,
    "norm_clip": nonnegative,
    "centralization": portion,
}


def roots(fim: Tensor, fim_diff: Tensor, eps: Scalar) -> tuple[Tensor, Tensor]:
    """a = max(√F, ε) and d = max(√Fᵈ, ε)."""
    return torch.clamp(fim.sqrt(), min=eps), torch.clamp(fim_diff.sqrt(), min=eps)


def denominator(t: Scalar, *, fim: Tensor, fim_diff: Tensor, eps: Scalar) -> Tensor:
    """P = ad: of the step after t, which divides before it adds to the averages."""
    a, d = roots(fim, fim_diff, eps)
    return a * d


@rule(
    denominator=denominator,
    fim=ones,
    fim_diff=ones,
    momentum=zeros,
    previous_grad=zeros,
    allowed=ALLOWED,
    reach="tensor",
    preconditions=True,
)
def exmachina(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    fim: Tensor,
    fim_diff: Tensor,
    momentum: Tensor,
    previous_grad: Tensor,
    betas: tuple[Scalar, Scalar],
    momentum_beta: Scalar,
    eps: Scalar,
    eps2: Scalar,
    eps_floor: Scalar | None,
    diff_mult: Scalar,
    momentum_lambda: Scalar,
    gamma: Scalar,
    norm_clip: Scalar,
    centralization: Scalar,
    cautious: bool,
) -> tuple[Tensor, Tensor]:
    """u = k(R(c/(ad)) + t^λ(m − mean m)), with a, d and m of the step before; c = g + κΔ, bounded in its L2 norm.

    F ← β̃F + (1−β̃)R(c/d)²,  Fᵈ ← β₁Fᵈ + (1−β₁)R(Δ)²,  both held within ±t^¼;  β̃ = √((β₂ᵗ − β₂)/(β₂ᵗ − 1)).
    """
    b1, b2 = betas
    crop = t**0.25
    fisher_beta = ((b2**t - b2) / (b2**t - 1)) ** 0.5  # 0 in the first step
    eps = parts.adaptive_epsilon(g, eps, eps2, eps_floor)
    change = (g - previous_grad) * ((t > 1) * 1.0)
    previous_grad.copy_(g)
    c = parts.norm_clipped(parts.variance_reduced(g, change, gamma, b1), norm_clip)
    a, d = roots(fim, fim_diff, eps)
    q = 1 / (a * d)
    natural = parts.rms_clipped(c * q)
    u = natural + (momentum - momentum.mean()) * t**momentum_lambda
    if u.ndim > 1:
        u = parts.centralized(u, centralization)
    if cautious:  # the public code's mask: by c, and a little less than the full scale
        k = (u * c > 0).to(u.dtype)
        u = u * k * (k.numel() / (k.sum() + 1))
    fim_diff.lerp_(parts.rms_clipped(change * diff_mult) ** 2, 1 - b1).clamp_(min=-crop, max=crop)
    # Not lerp_: from 1 to a small number at weight 1 it would leave the rounding of the 1.
    fim.mul_(fisher_beta).add_(parts.rms_clipped(c * a * q) ** 2 * (1 - fisher_beta)).clamp_(min=-crop, max=crop)
    momentum.lerp_(natural, 1 - momentum_beta)
    return u, q


class ExMachina(Optimizer, rule={"stable": exmachina, "published": exmachina}, cautious=True, decay="preconditioned"):
    """FMARSCrop: a variance-reduced gradient in the metric of two Fisher estimates, with amplified momentum.

    ``ĝ = R(c/(√F √Fᵈ)),  u = ĝ + t^λ(m − mean m),  m ← EMA ĝ``

    c = g + γβ₁/(1−β₁)Δ is MARS's corrected gradient, F the average of (c/√Fᵈ)², Fᵈ that of the gradient's change Δ; both
    are those of the step before, and are held within t^¼.  DOPE descends from it.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        betas: decay rates β₁ of Fᵈ and β₂ of F, in [0, 1).
        momentum_beta: decay rate of the momentum.
        eps: ε, the least of both roots.
        eps2: with ``eps_floor``, ε = ε₂ RMS(g) between floor and ``eps``.
        eps_floor: None keeps ε constant.
        weight_decay: strength λ of the decay, p ← p − ηλR(p/(√F √Fᵈ)).
        diff_mult: factor of Δ in Fᵈ.
        momentum_lambda: the exponent of the momentum's amplification t^λ.
        gamma: γ of MARS's correction.
        clip: bound of the L2 norm of each tensor's c.  A pair is the option ``clip``, on the gradient.
        centralization: how much of each row's mean is taken out of the update.
        variant: ``"stable"`` or ``"published"``: the public algorithm needs no safeguard, and both names mean it.
        options: see ``thalweg.Options``.
    """

    aliases: ClassVar[dict[str, str]] = {"clip": "norm_clip"}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.5e-4,
        betas: tuple[float | Tensor, float | Tensor] = (0.999, 0.9999),
        momentum_beta: float = 0.9999,
        eps: float = 1e-6,
        eps2: float = 1e-2,
        eps_floor: float | None = None,
        weight_decay: float = 0.01,
        diff_mult: float = 1.0,
        momentum_lambda: float = 0.25,
        gamma: float = 5e-4,
        clip: Clip = 1.0,
        centralization: float = 0.0,
        variant: Literal["stable", "published"] = "stable",
        **options: Unpack[OptionsButClip],
    ) -> None:
        own_clip, pair = split_clip(clip, 1.0)
        own = dict(
            lr=lr,
            betas=betas,
            momentum_beta=momentum_beta,
            eps=eps,
            eps2=eps2,
            eps_floor=eps_floor,
            weight_decay=weight_decay,
            diff_mult=diff_mult,
            momentum_lambda=momentum_lambda,
            gamma=gamma,
            norm_clip=own_clip,
            centralization=centralization,
            variant=variant,
        )
        super().__init__(params, own, cast(Options, {"clip": pair} | options))
