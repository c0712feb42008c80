"""The law of exponentials that DCAO was proposed with: learning rate, momentum and weight decay fall with curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import Tensor

from thalweg.control.decision import Decision
from thalweg.control.held import Held, Remembers
from thalweg.control.probe import Probe
from thalweg.core.allowed import Choice, Range, flag, nonnegative

Gap = Literal["spread", "gap"]


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """``η = η₀ exp(−αρ),  μ = μ₀ exp(−βγ_H),  λ = λ₀ exp(−γρ)``: as printed, with its symbols.

    ρ = max|λᵢ| and γ_H are of the k eigenvalues of largest magnitude of the batch's Hessian.  The subscripts 0 are the
    values in the parameter groups, which a scheduler may move.

    α, β and γ carry units of 1/curvature: multiply the loss by 10, and η₀ by 1/10, and training freezes; ``normalized``
    mends that.  Training sharpens until ρ ≈ 2/η, and with that ``η = η₀ exp(−2α/η)`` has a solution only if η₀ ≥ 2eα: below,
    η and ρ drive each other to 0 and infinity, so that a smaller η₀ is warned of.  Normalized, ``η = η₀ exp(−α(2/ηρ_ref − 1))``
    is reached from η₀ only if ``η₀ρ_ref ≥ 2a exp(1 − a)``, a = min(α, 1): known, and warned of, at the first measurement.

    Attributes:
        alpha, beta, gamma: α, β, γ.
        k: how many eigenvalues.
        every: steps from one measurement to the next.
        gap: γ_H: ``"spread"`` is max|λᵢ − λⱼ| over the k, as printed, and close to ρ in networks; ``"gap"`` is |λ₁ − λ₂|.
        normalized: ρ/ρ_ref − 1 in place of ρ, and γ_H/γ_ref − 1 in place of γ_H, the references from the first measurement.
        tol: relative residual of the eigenvalues.
    """

    alpha: float = 0.01
    beta: float = 0.0
    gamma: float = 0.0
    k: int = 5
    every: int = 1000
    gap: Gap = "spread"
    normalized: bool = False
    tol: float = 0.01

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            nonnegative.check(f"Exponential: {name}", getattr(self, name))
        Range(2, whole=True).check("Exponential: k", self.k)
        Range(1, whole=True).check("Exponential: every", self.every)
        Range(1e-12, 1.0).check("Exponential: tol", self.tol)
        Choice(get_args(Gap)).check("Exponential: gap", self.gap)
        flag.check("Exponential: normalized", self.normalized)

    def least(self, rho_ref: float) -> float:
        """The smallest η₀ at which sharpness and learning rate have a resting point."""
        a = min(self.alpha, 1.0)
        return 2 * a * math.exp(1 - a) / rho_ref if self.normalized else 2 * math.e * self.alpha

    def advice(self, lr: float, rho_ref: float = math.nan) -> str:
        """What to warn of at a learning rate η₀; "" if there is nothing, or, normalized, no ρ_ref yet."""
        if (self.normalized and not rho_ref > 0) or lr >= (least := self.least(rho_ref)):
            return ""
        known = f"2a·exp(1 − a)/ρ_ref, with a = min(α, 1) and ρ_ref = {rho_ref:.3g}" if self.normalized else "2eα"
        remedy = "a smaller alpha" if self.normalized else f"alpha ≤ {lr / (2 * math.e):.3g}, or normalized=True"
        return (
            f"lr={lr:g} is below {least:.3g} = {known}; at alpha={self.alpha:g} sharpness and learning rate then have no"
            f" resting point, and training may freeze; take {remedy}"
        )

    def begin(self) -> ExponentialPolicy:
        """The policy of one run."""
        return ExponentialPolicy(self)


@dataclass
class Measured(Held):
    """What an exponential policy remembers: ρ, γ_H, their references, the residual, and the step of the next measurement."""

    rho: float = math.nan
    gap: float = math.nan
    rho_ref: float = math.nan
    gap_ref: float = math.nan
    residual: float = math.nan
    factors: dict[str, float] = field(default_factory=dict[str, float])


class ExponentialPolicy(Remembers[Measured]):
    """One run under ``Exponential``."""

    def __init__(self, law: Exponential) -> None:
        self.law, self.held = law, Measured()

    def decide(self, step: int, asked: float, probe: Probe | None, norm: Callable[[], float]) -> Decision:
        """The law at the last measurement; a measurement that fails leaves it as it was."""
        held, note, loss = self.held, "", math.nan
        if probe is not None:
            try:
                first = math.isnan(held.rho_ref)
                self.measure(probe, step)
                note = self.law.advice(asked, held.rho_ref) if first and self.law.normalized else ""
                loss = probe.operator.loss.item()
            except FloatingPointError as error:
                note = f"{str(error).rstrip('.')}; the last values stay"
            held.next = step + self.law.every
        used = asked * held.factors.get("lr", 1.0)
        return Decision(
            step=step,
            asked=asked,
            used=used,
            active="schedule" if used == asked else "exponential",
            bounds={"exponential": used},
            factors=held.factors,
            loss=loss,
            sharpness=held.rho,
            residual=held.residual,
            ratio=held.rho * used / 2,
            cost=float(probe.cost.gradient_equivalents) if probe else 0.0,
            note=note,
        )

    def measure(self, probe: Probe, step: int) -> None:
        """ρ and γ_H of one batch, and what they make of the hyperparameters."""
        law, held = self.law, self.held
        k = min(law.k, probe.operator.space.size)
        pairs = probe.spectrum(k, "magnitude", law.tol, seed=step)
        held.rho, held.gap = pairs.eigenvalues.abs().max().item(), gap_of(pairs.eigenvalues, law.gap)
        held.residual = pairs.residuals.max().item()
        if math.isnan(held.rho_ref):
            held.rho_ref, held.gap_ref = held.rho, held.gap
        rho, gap = held.rho, held.gap
        if law.normalized:
            rho, gap = relative(rho, held.rho_ref), relative(gap, held.gap_ref)
        held.factors = {
            "lr": math.exp(-law.alpha * rho),
            "momentum": math.exp(-law.beta * gap),
            "weight_decay": math.exp(-law.gamma * rho),
        }


def gap_of(eigenvalues: Tensor, gap: Gap) -> float:
    """γ_H of eigenvalues, the largest magnitude first."""
    if gap == "spread" or len(eigenvalues) < 2:
        return (eigenvalues.max() - eigenvalues.min()).item()
    return (eigenvalues[0] - eigenvalues[1]).abs().item()


def relative(x: float, reference: float) -> float:
    """x/reference − 1; 0 without a reference."""
    return x / reference - 1 if reference else 0.0
