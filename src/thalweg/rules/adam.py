"""Adam and AdamW: momentum over the root of a second moment, both bias-corrected."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core.allowed import flag, fractions, nonnegative
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Scalar, rule, zeros


def denominator(
    t: Scalar, *, exp_avg_sq: Tensor, max_exp_avg_sq: Tensor | None = None, betas: tuple[Scalar, Scalar], eps: Scalar
) -> Tensor:
    """P = √v̂ + ε."""
    v = exp_avg_sq if max_exp_avg_sq is None else max_exp_avg_sq
    return (v / (1 - betas[1] ** t)).sqrt() + eps


@rule(
    denominator=denominator,
    exp_avg=zeros,
    exp_avg_sq=zeros,
    max_exp_avg_sq=zeros.when("amsgrad"),
    allowed={"betas": fractions, "eps": nonnegative, "amsgrad": flag},
)
def adam(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    max_exp_avg_sq: Tensor | None,
    betas: tuple[Scalar, Scalar],
    eps: Scalar,
    amsgrad: bool,
) -> Tensor:
    """u = m̂ / (√v̂ + ε).  Kingma & Ba 2015, Algorithm 1 (arXiv:1412.6980); amsgrad: Reddi et al. 2018 (arXiv:1904.09237)."""
    b1, b2 = betas
    m = exp_avg.lerp_(g, 1 - b1)  # m ← β₁m + (1−β₁)g
    v = exp_avg_sq.lerp_(g * g, 1 - b2)  # v ← β₂v + (1−β₂)g²
    if max_exp_avg_sq is not None:
        v = max_exp_avg_sq.copy_(torch.maximum(max_exp_avg_sq, v))
    return m / (1 - b1**t) / denominator(t, exp_avg_sq=v, betas=betas, eps=eps)


class Adam(Optimizer, rule=adam):
    """Adam; ``weight_decay`` is an L2 penalty added to the gradient.  Kingma & Ba 2015 (arXiv:1412.6980).

    ``m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  p ← p − η m̂/(√v̂ + ε)``

    The penalty is divided by √v̂ like the loss's gradient, so weights with large gradients decay least: to decay all alike,
    use AdamW.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        betas: decay rates β₁, β₂ of the two averages, in [0, 1).
        eps: added to √v̂; bounds the step where the gradient has been near zero.
        weight_decay: strength λ of the penalty.
        amsgrad: divide by the largest v so far.
        options: see ``thalweg.Options``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad), options)


class AdamW(Adam, decay="decoupled"):
    """Adam with decoupled weight decay.  Loshchilov & Hutter 2019, Algorithm 2 (arXiv:1711.05101).

    ``p ← (1 − ηλ)p − η m̂/(√v̂ + ε)``, with Adam's m̂ and v̂; arguments as in Adam.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)
