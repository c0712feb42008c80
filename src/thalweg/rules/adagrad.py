"""Adagrad: every coordinate's step shrinks with the gradients it has seen."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core.allowed import flag, nonnegative
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Scalar, State, rule


def denominator(t: Scalar, *, sum: Tensor, eps: Scalar, eps_inside: bool) -> Tensor:
    """P = √G + ε, or √(G + ε)."""
    return (sum + eps).sqrt() if eps_inside else sum.sqrt() + eps


@rule(
    denominator=denominator,
    sum=State(fill="initial_accumulator_value"),
    allowed={"lr_decay": nonnegative, "initial_accumulator_value": nonnegative, "eps": nonnegative, "eps_inside": flag},
)
def adagrad(g: Tensor, p: Tensor, t: Scalar, *, sum: Tensor, lr_decay: Scalar, eps: Scalar, eps_inside: bool) -> Tensor:
    """G ← G + g², u = g / (√G + ε), or g / √(G + ε).  Duchi et al. 2011, sect. 1.1."""
    G = sum.add_(g * g)
    return g / denominator(t, sum=G, eps=eps, eps_inside=eps_inside) / (1 + (t - 1) * lr_decay)


class Adagrad(Optimizer, rule=adagrad):
    """Adagrad.  Same arguments and results as ``torch.optim.Adagrad``.  Duchi et al. 2011 (JMLR 12, 2121-2159).

    ``G ← G + g²,  p ← p − η/(1 + (t−1)·lr_decay) · g/(√G + ε)``

    Good for sparse features, whose rare gradients keep a large step.  G only grows, so the step falls like 1/√t whatever
    the loss does: on long non-convex training prefer RMSprop or Adam.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        lr_decay: extra decay of the step size.
        weight_decay: strength λ of the L2 penalty.
        initial_accumulator_value: the first G.
        eps: ε.
        eps_inside: put ε under the root, √(G + ε), as many course notes do; torch's place is outside.
        options: see ``thalweg.Options``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        eps_inside: bool = False,
        **options: Unpack[Options],
    ) -> None:
        own = dict(
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            eps_inside=eps_inside,
        )
        super().__init__(params, own, options)
