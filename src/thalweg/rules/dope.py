"""DOPE: two Fisher estimates, of the gradient and of its change, under an amplified momentum."""

from __future__ import annotations

import inspect
import warnings
from typing import Any, ClassVar, Literal, Unpack, cast

from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core import gradient, parts
from thalweg.core.allowed import Choice, Maybe, finite, fraction, fractions, nonnegative, portion
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Clip, Options, OptionsButClip, split_clip
from thalweg.core.rule import Scalar, rule, zeros

ALLOWED = {
    "betas": fractions,
    "momentum_beta": fraction,
    "eps": nonnegative,
    "eps2": nonnegative,
    "eps_floor": Maybe(nonnegative),
    "diff_mult": nonnegative,
    "momentum_lambda": finite,
    "amplification_cap": nonnegative,
    "gamma": nonnegative,
    "power": portion,
    "rms_clip": nonnegative,
}
OWN_DECAY = ALLOWED | {"decay": Choice(("preconditioned",))}


def denominator(
    t: Scalar, *, fim: Tensor, fim_diff: Tensor | None, betas: tuple[Scalar, Scalar], eps: Scalar, power: float
) -> Tensor:
    """P = ad, and a alone in the first step, which has no Δ."""
    b1, b2 = betas
    later = (t > 1) * 1.0
    a = parts.root(fim / (1 - b2**t), power) + eps
    if fim_diff is None:
        return a
    d = parts.root(fim_diff / (1 - b1 ** (t - later)), power) + eps  # corrected for its start in the second step
    return a * (d * later + (1 - later))


@rule(
    denominator=denominator,
    fim=zeros,
    fim_diff=zeros.when("diff_mult"),
    momentum=zeros,
    previous_grad=zeros.when("gamma", "diff_mult"),
    allowed=ALLOWED,
    reach="tensor",
    preconditions=True,
    static=("power",),
)
def dope(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    fim: Tensor,
    fim_diff: Tensor | None,
    momentum: Tensor,
    previous_grad: Tensor | None,
    betas: tuple[Scalar, Scalar],
    momentum_beta: Scalar,
    eps: Scalar,
    eps2: Scalar,
    eps_floor: Scalar | None,
    diff_mult: Scalar,
    momentum_lambda: Scalar,
    amplification_cap: Scalar,
    gamma: Scalar,
    power: float,
    rms_clip: Scalar,
) -> tuple[Tensor, Tensor]:
    """ĝ = R(c/(ad)), u = ĝ + min(t^λ, cap)(m − mean m): the stable form.

    c = g̃ + κΔ;  a = F̂^½ + ε, d = F̂ᵈ^½ + ε, the roots of the averages of g̃² and of Δ² = (g̃_t − g̃_{t−1})².
    """
    b1, b2 = betas
    later = (t > 1) * 1.0  # 0 in the first step, which has no change to look at
    eps = parts.adaptive_epsilon(g, eps, eps2, eps_floor)
    F = fim.lerp_(g * g, 1 - b2)  # F ← β₂F + (1−β₂)g̃²
    Fd, c = None, g
    if previous_grad is not None:
        change = (g - previous_grad) * later
        c = parts.variance_reduced(g, change, gamma, b1)
        previous_grad.copy_(g)
        if fim_diff is not None:
            change = change * diff_mult
            Fd = fim_diff.lerp_(change * change, 1 - b1)  # Fᵈ ← β₁Fᵈ + (1−β₁)Δ²
    q = 1 / denominator(t, fim=F, fim_diff=Fd, betas=betas, eps=eps, power=power)
    natural = parts.rms_clipped(c * q, rms_clip)
    m = momentum.lerp_(natural, 1 - momentum_beta)  # m ← β_m m + (1−β_m)ĝ
    return natural + (m - m.mean()) * parts.amplified(t, momentum_lambda, amplification_cap), q


def published_product(
    t: Scalar,
    fim: Tensor,
    fim_diff: Tensor,
    betas: tuple[Scalar, Scalar],
    eps: Scalar,
    eps2: Scalar,
    diff_mult: Scalar,
) -> Tensor:
    """ad."""
    b1, b2 = betas
    return ((fim / (1 - b2**t)).sqrt() + eps) * ((fim_diff / (1 - b1**t)).sqrt() * diff_mult + eps2)


def published_denominator(
    t: Scalar,
    *,
    fim: Tensor,
    fim_diff: Tensor,
    betas: tuple[Scalar, Scalar],
    eps: Scalar,
    eps2: Scalar,
    diff_mult: Scalar,
    gamma: Scalar,
) -> Tensor:
    """P = 1/(1/(ad) + κ), of c = g̃/(ad) + κg̃."""
    ad = published_product(t, fim, fim_diff, betas, eps, eps2, diff_mult)
    return 1 / (1 / ad + gamma * betas[0] / (1 - betas[0]))


@rule(
    denominator=published_denominator,
    fim=zeros,
    fim_diff=zeros,
    momentum=zeros,
    previous_grad=zeros,
    allowed=OWN_DECAY,
    reach="tensor",
)
def published(
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
    rms_clip: Scalar,
    centralize: Scalar,
    normalize: Scalar,
    normalize_channels: bool,
    cautious: bool,
    decay: str,
    weight_decay: Scalar,
) -> Tensor:
    """The public code's steps: ĝ = g̃/(ad) is not bounded, c = ĝ + κg̃, and λ p/(ad) reaches λ/(ε ε₂) where g is zero."""
    b1, b2 = betas
    g = parts.as_published(g, centralize, normalize, channels=normalize_channels)
    g = parts.norm_clipped(g, rms_clip)
    change = g - previous_grad
    previous_grad.copy_(g)
    F = fim.lerp_(g * g, 1 - b2)
    Fd = fim_diff.lerp_(change * change, 1 - b1)
    if eps_floor is not None:
        eps = parts.at_least(eps * t**0.5, eps_floor)
    ad = published_product(t, F, Fd, betas, eps, eps2, diff_mult)
    c = g / ad + g * (gamma * b1 / (1 - b1))
    m = momentum.lerp_(c, 1 - momentum_beta)
    m.sub_(parts.row_mean(m))
    u = c + m * (momentum_lambda * t**momentum_lambda)
    if cautious:
        k = (u * g > 0).to(u.dtype)
        u = u * k * (k.numel() / (k.sum() + 1e-8))
    return u + p / ad * weight_decay


@rule(
    fim=zeros,
    fim_diff=zeros,
    momentum=zeros,
    previous_grad=zeros,
    allowed=OWN_DECAY,
    reach="tensor",
)
def equations(
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
    momentum_lambda: Scalar,
    gamma: Scalar,
    centralize: Scalar,
    normalize: Scalar,
    normalize_channels: bool,
    cautious: bool,
    decay: str,
    weight_decay: Scalar,
) -> Tensor:
    """The document as printed: ĝ = g̃/√((F+ε)(Fᵈ+ε)), Fᵈ of the raw gradient's change, c = ĝ + κ g_{t−1}, nothing corrected."""
    b1, b2 = betas
    h = {"centralize": centralize, "normalize": normalize}
    normalized = gradient.normalize if normalize_channels else gradient.normalize_whole
    processed = normalized.apply(gradient.centralize.apply(g, p, h), p, h)
    F = fim.lerp_(processed * processed, 1 - b2)
    change = g - previous_grad
    Fd = fim_diff.lerp_(change * change, 1 - b1)
    ad = (F + eps).sqrt() * (Fd + eps).sqrt()
    natural = processed / ad
    c = natural + previous_grad * (gamma * b1 / (1 - b1))
    previous_grad.copy_(g)
    m = momentum.lerp_(natural, 1 - momentum_beta)
    u = c + (m - m.mean()) * t**momentum_lambda
    if cautious:
        k = (u * c > 0).to(u.dtype)
        u = u * k * (k.numel() / k.sum().clamp(min=1))  # as 0 where the printed N/Σ is 0 · ∞
    return u + p / ad * weight_decay


TUNED = dict(
    lr=1.5e-3,
    betas=(0.999, 0.999),
    momentum_beta=0.9,
    momentum_lambda=0.1,
    diff_mult=0.0,
    power=0.75,
    gamma=0.0,
    cautious=False,
)
"""What did best in benchmarks/ablation.md: F alone at the power ¾, a short momentum, no mask; 8 bytes of state a parameter."""


class DOPE(
    Optimizer,
    rule={"stable": dope, "published": published, "equations": equations},
    cautious=True,
    decay="preconditioned",
):
    """Dynamic optimized parameter estimation: two Fisher estimates under an amplified momentum.

    ``F ← EMA g̃²,  Fᵈ ← EMA Δ²,  ĝ = R(c/((√F̂+ε)(√F̂ᵈ+ε))),  m ← EMA ĝ,  u = ĝ + min(t^λ, cap)(m − mean m)``

    g̃ is the gradient, centralized and normalized by rows; Δ its change since the last step; c = g̃ + γβ₁/(1−β₁)Δ MARS's
    correction; R the RMS clip.  Where g and u disagree in sign nothing moves (``cautious``), and weight decay acts in the
    metric of the update, p ← p − ηλR(p/((√F̂+ε)(√F̂ᵈ+ε))).

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η, about the RMS of the update; a float or a 0-D tensor.
        betas: decay rates β₁ of Fᵈ and β₂ of F, in [0, 1).
        momentum_beta: β_m, decay rate of the momentum.
        eps: ε, added to both roots.
        eps2: with ``eps_floor``, ε = ε₂ RMS(g̃) between floor and ``eps``; published: added to the root of Fᵈ.
        eps_floor: None keeps ε constant.
        weight_decay: strength λ of the decay.
        centralization: how much of each row's mean is taken out of the gradient, in [0, 1]; the option ``centralize``.
        normalization: how much of the gradient is divided by its standard deviation, in [0, 1]; the option ``normalize``.
        diff_mult: factor of Δ in Fᵈ; 0 leaves Fᵈ out, and with ``gamma=0`` the previous gradient too: 8 bytes a parameter.
        momentum_lambda: λ, the exponent of the momentum's amplification t^λ.
        amplification_cap: its largest value.
        gamma: γ of MARS's correction.
        clip: bound of the RMS clip; published: of the L2 norm of each tensor's g̃.  A pair is the option
            ``clip``, on the gradient.
        power: of the two averages, ½ for their roots.
        variant: ``"stable"``; ``"published"``, the public code's steps, which multiply a weight whose gradient is zero by
            1 − ηλ/(eps·eps2) in each step, and make NaN of rows of one element; ``"equations"``, the document as printed,
            without bias correction or bound, which leaves the finite numbers within tens of steps.
        preset: ``"seed"``, the document's values; ``"tuned"``: what is left at them becomes ``lr=1.5e-3``,
            ``betas=(0.999, 0.999)``, ``momentum_beta=0.9``, ``momentum_lambda=0.1``, ``diff_mult=0``, ``power=0.75``,
            ``gamma=0`` and ``cautious=False``, which did best in the ablation and keep 8 bytes a parameter; the lr is that
            of its largest network.
        options: see ``thalweg.Options``.
    """

    aliases: ClassVar[dict[str, str]] = {
        "centralization": "centralize",
        "normalization": "normalize",
        "clip": "rms_clip",
    }

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
        centralization: float = 0.5,
        normalization: float = 0.5,
        diff_mult: float = 1.0,
        momentum_lambda: float = 0.25,
        amplification_cap: float = 10.0,
        gamma: float = 5e-4,
        clip: Clip = 1.0,
        power: float = 0.5,
        variant: Literal["stable", "published", "equations"] = "stable",
        preset: Literal["seed", "tuned"] = "seed",
        **options: Unpack[OptionsButClip],
    ) -> None:
        Choice(("seed", "tuned")).check("DOPE: preset", preset)
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
            amplification_cap=amplification_cap,
            gamma=gamma,
            rms_clip=own_clip,
            power=power,
            variant=variant,
        )
        shared = dict(centralize=centralization, normalize=normalization, clip=pair)
        if preset == "tuned":
            seed = {name: p.default for name, p in inspect.signature(DOPE.__init__).parameters.items()}
            own |= {name: value for name, value in TUNED.items() if name in own and own[name] == seed[name]}
            options = cast(OptionsButClip, {"cautious": TUNED["cautious"]} | options)
        super().__init__(params, own, cast(Options, shared | options))

    @classmethod
    def advise(cls, group: dict[str, Any]) -> None:
        """Warns of a variant that is unsafe at the values given."""
        growth = float(group["lr"]) * float(group["weight_decay"]) / max(group["eps"] * group["eps2"], 1e-300)
        if group["variant"] == "published" and growth > 1:
            warnings.warn(
                f"DOPE: variant='published' multiplies a weight whose gradient is zero by {1 - growth:.3g} in each step"
                ' (1 − lr·weight_decay/(eps·eps2)); weight_decay=0 or variant="stable" does not.',
                stacklevel=4,
            )
        if group["variant"] == "equations":
            warnings.warn(
                "DOPE: variant='equations' neither corrects nor bounds its averages and may leave the finite numbers within"
                ' tens of steps; variant="stable" does not.',
                stacklevel=4,
            )
