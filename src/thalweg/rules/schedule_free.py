"""Schedule-free AdamW and SGD: the average of the path in place of a schedule that ends at zero."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core.allowed import fraction, fractions, nonnegative
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Scalar, identity, rule, zeros
from thalweg.rules.adam import denominator


@rule(denominator=denominator, exp_avg_sq=zeros, allowed={"betas": fractions, "eps": nonnegative})
def scaled(g: Tensor, p: Tensor, t: Scalar, *, exp_avg_sq: Tensor, betas: tuple[Scalar, Scalar], eps: Scalar) -> Tensor:
    """u = g / (√v̂ + ε): Adam without its momentum, whose place the average takes.  Defazio et al. 2024, Algorithm 1."""
    _, b2 = betas
    v = exp_avg_sq.lerp_(g * g, 1 - b2)  # v ← β₂v + (1−β₂)g²
    return g / denominator(t, exp_avg_sq=v, betas=betas, eps=eps)


@rule(denominator=identity, allowed={"momentum": fraction})
def steepest(g: Tensor, p: Tensor, t: Scalar) -> Tensor:
    """u = g."""
    return g


class AdamWScheduleFree(Optimizer, rule=scaled, decay="decoupled", average="schedule_free"):
    """AdamW that needs no schedule.  Defazio et al. 2024, Algorithm 1 (arXiv:2405.15682).

    ``v ← β₂v + (1−β₂)g²,  z ← z − γ(g/(√v̂ + ε) + λy),  x ← (1−c)x + cz,  y ← β₁x + (1−β₁)z``

    Gradients are taken at y, which the parameters hold in training; evaluation is of the average x, which they hold
    after ``optimizer.eval()``, within ``with optimizer.evaluation():``, and until ``optimizer.train()``.  The weight of the
    newest z in the average, c, falls like 1/t, so the run may be stopped at any time: leave learning-rate schedules out,
    and begin with a few percent of the steps as ``warmup_steps``.  The best ``lr`` is 1 to 10 times AdamW's.

    BatchNorm's running statistics belong to y: see ``thalweg.update_bn``.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        betas: β₁, the part of x in y, in (0, 1); β₂, the decay rate of v, in [0, 1).
        eps: added to √v̂.
        weight_decay: strength λ of the decay, at y.
        options: see ``thalweg.Options``; those of the average are ``warmup_steps``, ``r`` and ``weight_lr_power``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.0025,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay), options)


class SGDScheduleFree(Optimizer, rule=steepest, decay="decoupled", average="schedule_free"):
    """SGD that needs no schedule.  Defazio et al. 2024, eq. 3-5 (arXiv:2405.15682).

    ``z ← z − γ(g + λy),  x ← (1−c)x + cz,  y ← βx + (1−β)z``, with β in the place of momentum.

    As in AdamWScheduleFree, gradients are taken at y and x is evaluated.  The best ``lr`` is 10 to 50 times that of SGD
    with momentum.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        momentum: β, the part of x in y, in (0, 1).
        weight_decay: strength λ of the decay, at y.
        options: see ``thalweg.Options``; those of the average are ``warmup_steps``, ``r`` and ``weight_lr_power``.

    Raises:
        ValueError: ``momentum=0``, for which the average could not be found from y and z.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay), options)

    @classmethod
    def check_group(cls, group: dict[str, Any]) -> None:
        """Refuses a momentum of zero."""
        if not group["momentum"]:
            raise ValueError("SGDScheduleFree: momentum=0 must be in (0, 1): it is the part of the average in y.")
