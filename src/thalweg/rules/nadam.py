"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core.allowed import fractions, nonnegative
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Recurrence, Scalar, rule, zeros
from thalweg.rules.adam import denominator


def momentum_at(t: Scalar, beta: Scalar, decay: Scalar) -> Scalar:
    """μ_t = β₁(1 − ½·0.96^(tψ)): the momentum warms up from near β₁/2."""
    return beta * (1 - 0.5 * 0.96 ** (t * decay))


def advance(mu_product: Scalar, t: Scalar, *, betas: Any, momentum_decay: Scalar, **_: Any) -> Scalar:
    """Π_{i≤t} μ_i, the weight that the first momentum still has: what the bias correction divides out."""
    return mu_product * momentum_at(t, betas[0], momentum_decay)


@rule(
    denominator=denominator,
    exp_avg=zeros,
    exp_avg_sq=zeros,
    mu_product=Recurrence(1.0, advance),
    allowed={"betas": fractions, "eps": nonnegative, "momentum_decay": nonnegative},
)
def nadam(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    mu_product: Scalar,
    betas: tuple[Scalar, Scalar],
    eps: Scalar,
    momentum_decay: Scalar,
) -> Tensor:
    """u = (μ_{t+1} m / (1 − Π_{i≤t+1} μ_i) + (1 − μ_t) g / (1 − Π_{i≤t} μ_i)) / (√v̂ + ε).  Dozat 2016, Algorithm 2."""
    b1, b2 = betas
    mu, mu_next = momentum_at(t, b1, momentum_decay), momentum_at(t + 1, b1, momentum_decay)
    m = exp_avg.lerp_(g, 1 - b1)  # m ← β₁m + (1−β₁)g
    v = exp_avg_sq.lerp_(g * g, 1 - b2)  # v ← β₂v + (1−β₂)g²
    ahead = m * (mu_next / (1 - mu_product * mu_next)) + g * ((1 - mu) / (1 - mu_product))
    return ahead / denominator(t, exp_avg_sq=v, betas=betas, eps=eps)


class NAdam(Optimizer, rule=nadam):
    """NAdam: Adam whose momentum looks one step ahead.  Same results as ``torch.optim.NAdam``.  Dozat 2016.

    ``p ← p − η (μ_{t+1} m/(1 − Πμ_{t+1}) + (1−μ_t) g/(1 − Πμ_t)) / (√v̂ + ε)``,  ``μ_t = β₁(1 − ½·0.96^(tψ))``

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        betas: decay rates β₁, β₂ of the two averages, in [0, 1).
        eps: added to √v̂.
        weight_decay: strength λ of the L2 penalty; ``decay="decoupled"`` is torch's ``decoupled_weight_decay=True``.
        momentum_decay: ψ, the speed of the momentum's warm-up.
        options: see ``thalweg.Options``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        **options: Unpack[Options],
    ) -> None:
        own = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, own, options)
