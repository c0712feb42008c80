"""RMSprop: the gradient over the root of its running mean square."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core.allowed import flag, fraction, nonnegative, portion
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Scalar, rule, zeros


def denominator(t: Scalar, *, square_avg: Tensor, grad_avg: Tensor | None, eps: Scalar) -> Tensor:
    """P = √v + ε; centred, √(v − mean²) + ε."""
    v = square_avg if grad_avg is None else square_avg - grad_avg * grad_avg
    return v.sqrt() + eps


@rule(
    denominator=denominator,
    square_avg=zeros,
    grad_avg=zeros.when("centered"),
    momentum_buffer=zeros.when("momentum"),
    allowed={"alpha": portion, "eps": nonnegative, "momentum": fraction, "centered": flag},
)
def rmsprop(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    square_avg: Tensor,
    grad_avg: Tensor | None,
    momentum_buffer: Tensor | None,
    alpha: Scalar,
    eps: Scalar,
    momentum: Scalar,
    centered: bool,
) -> Tensor:
    """v ← αv + (1−α)g², u = g / (√v + ε).  Tieleman & Hinton 2012, lecture 6.5; centred: Graves 2013 (arXiv:1308.0850)."""
    v = square_avg.lerp_(g * g, 1 - alpha)
    mean = None if grad_avg is None else grad_avg.lerp_(g, 1 - alpha)
    u = g / denominator(t, square_avg=v, grad_avg=mean, eps=eps)
    return u if momentum_buffer is None else momentum_buffer.mul_(momentum).add_(u)


class RMSprop(Optimizer, rule=rmsprop):
    """RMSprop.  Same arguments and results as ``torch.optim.RMSprop``.  Tieleman & Hinton 2012, lecture 6.5.

    ``v ← αv + (1−α)g²,  u = g/(√v + ε),  p ← p − ηu``; with momentum ``b ← μb + u, p ← p − ηb``

    v starts at zero and is not corrected for it, so the first steps are up to 1/√(1−α) times too long; Adam repairs this.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        alpha: decay rate α of the mean square, in [0, 1].
        eps: ε, added outside the root.
        weight_decay: strength λ of the L2 penalty.
        momentum: μ in [0, 1); 0 keeps no momentum buffer.
        centered: divide by the standard deviation: v − mean² in place of v.
        options: see ``thalweg.Options``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        **options: Unpack[Options],
    ) -> None:
        own = dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered)
        super().__init__(params, own, options)
