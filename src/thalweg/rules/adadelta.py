"""Adadelta: steps in the units of the parameter, from the size of past steps."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core.allowed import nonnegative, portion
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Scalar, rule, zeros


def roots(acc_delta: Tensor, square_avg: Tensor, eps: Scalar) -> tuple[Tensor, Tensor]:
    """√(D + ε) and √(v + ε)."""
    return (acc_delta + eps).sqrt(), (square_avg + eps).sqrt()


def denominator(t: Scalar, *, square_avg: Tensor, acc_delta: Tensor, eps: Scalar) -> Tensor:
    """P = √(v + ε) / √(D + ε)."""
    step, slope = roots(acc_delta, square_avg, eps)
    return slope / step


@rule(denominator=denominator, square_avg=zeros, acc_delta=zeros, allowed={"rho": portion, "eps": nonnegative})
def adadelta(
    g: Tensor, p: Tensor, t: Scalar, *, square_avg: Tensor, acc_delta: Tensor, rho: Scalar, eps: Scalar
) -> Tensor:
    """u = √(D + ε) / √(v + ε) · g, v and D running means of g² and u².  Zeiler 2012, Algorithm 1 (arXiv:1212.5701)."""
    v = square_avg.lerp_(g * g, 1 - rho)  # v ← ρv + (1−ρ)g²
    step, slope = roots(acc_delta, v, eps)
    u = step / slope * g
    acc_delta.lerp_(u * u, 1 - rho)  # D ← ρD + (1−ρ)u²
    return u


class Adadelta(Optimizer, rule=adadelta):
    """Adadelta.  Same arguments and results as ``torch.optim.Adadelta``.  Zeiler 2012 (arXiv:1212.5701).

    ``v ← ρv + (1−ρ)g²,  u = √(D + ε)/√(v + ε) · g,  D ← ρD + (1−ρ)u²,  p ← p − ηu``

    Needs no global rate: η = 1 is the paper's rule.  D starts at zero, so the first steps are about √ε long and training
    starts slowly; a tuned Adam usually ends lower.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: factor η on the step; a float or a 0-D tensor.
        rho: decay rate ρ of both averages, in [0, 1].
        eps: ε, the square of the first step's size.
        weight_decay: strength λ of the L2 penalty.
        options: see ``thalweg.Options``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay), options)
