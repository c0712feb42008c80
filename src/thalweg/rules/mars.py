"""MARS: variance reduction by the change of the gradient, under AdamW, Lion or Shampoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core import matrices, parts
from thalweg.core.allowed import flag, fractions, nonnegative
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Rule, Scalar, rule, zeros
from thalweg.core.sharding import Reach
from thalweg.rules.adam import denominator

ALLOWED = {
    "betas": fractions,
    "betas_1d": fractions,
    "eps": nonnegative,
    "gamma": nonnegative,
    "lr_1d": nonnegative,
    "lr_1d_factor": nonnegative,
    "optimize_1d": flag,
    "exact": flag,
}


def corrected(
    g: Tensor, p: Tensor, t: Scalar, previous_grad: Tensor, previous_param: Tensor | None, gamma: Scalar, beta: Scalar
) -> Tensor:
    """c = g + γβ/(1−β)(g − g'), its norm at most 1; g' is the last gradient, or the one of this batch at the last point."""
    change = (g - previous_grad) * ((t > 1) * 1.0)
    if previous_param is None:
        previous_grad.copy_(g)
    else:
        previous_param.copy_(p)
    return parts.norm_clipped(parts.variance_reduced(g, change, gamma, beta), 1.0)


def adam(c: Tensor, t: Scalar, m: Tensor, v: Tensor, betas: tuple[Scalar, Scalar], eps: Scalar) -> Tensor:
    """u = m̂ / (√v̂ + ε), both averages over c.  Yuan et al. 2024, Algorithm 2 (arXiv:2411.10438)."""
    b1, b2 = betas
    m, v = m.lerp_(c, 1 - b1), v.lerp_(c * c, 1 - b2)
    return m / (1 - b1**t) / denominator(t, exp_avg_sq=v, betas=betas, eps=eps)


def lion(c: Tensor, t: Scalar, m: Tensor, v: Tensor, betas: tuple[Scalar, Scalar], eps: Scalar) -> Tensor:
    """u = sign(m).  Yuan et al. 2024, Algorithm 3."""
    return m.lerp_(c, 1 - betas[0]).sign()


def shampoo(c: Tensor, t: Scalar, m: Tensor, v: Tensor, betas: tuple[Scalar, Scalar], eps: Scalar) -> Tensor:
    """u = √max(1, rows/columns) · UVᵀ of m = UΣVᵀ, rows being output units.  Yuan et al. 2024, Algorithm 4, and its code."""
    return matrices.orthogonalized(m.lerp_(c, 1 - betas[0]), matrices.Iteration(eps))


def follows_adam(x: Tensor, optimize_1d: bool) -> bool:
    """Whether a parameter takes no part, and plain AdamW's steps."""
    return x.ndim < 2 and not optimize_1d


def of_either(
    t: Scalar,
    *,
    exp_avg_sq: Tensor,
    betas: tuple[Scalar, Scalar],
    betas_1d: tuple[Scalar, Scalar],
    eps: Scalar,
    optimize_1d: bool,
) -> Tensor:
    """P = √v̂ + ε, corrected by the parameter's own β₂."""
    betas = betas_1d if follows_adam(exp_avg_sq, optimize_1d) else betas
    return denominator(t, exp_avg_sq=exp_avg_sq, betas=betas, eps=eps)


def mars(
    direction: Callable[..., Tensor], reach: Reach = "tensor", denominator: Callable[..., Tensor] | None = None
) -> Rule:
    """MARS with one of the directions above, by the corrected gradient; vectors may take plain AdamW's steps instead."""

    @rule(
        denominator=denominator,
        exp_avg=zeros,
        exp_avg_sq=zeros,
        previous_grad=zeros,
        previous_param=zeros.when("exact"),
        allowed=ALLOWED,
        reach=reach,
    )
    def update(
        g: Tensor,
        p: Tensor,
        t: Scalar,
        *,
        exp_avg: Tensor,
        exp_avg_sq: Tensor,
        previous_grad: Tensor,
        previous_param: Tensor | None,
        betas: tuple[Scalar, Scalar],
        betas_1d: tuple[Scalar, Scalar],
        eps: Scalar,
        gamma: Scalar,
        lr_1d_factor: Scalar,
        optimize_1d: bool,
    ) -> Tensor:
        if follows_adam(g, optimize_1d):
            return adam(g, t, exp_avg, exp_avg_sq, betas_1d, eps) * lr_1d_factor
        c = corrected(g, p, t, previous_grad, previous_param, gamma, betas[0])
        return direction(c, t, exp_avg, exp_avg_sq, betas, eps)

    return update


class MARS(
    Optimizer,
    rule={"adamw": mars(adam, denominator=of_either), "lion": mars(lion), "shampoo": mars(shampoo, reach="matrix")},
    decay="decoupled",
):
    """Make variance reduction shine: AdamW, Lion or Shampoo on a gradient corrected by its change (arXiv:2411.10438).

    ``c = g + γβ₁/(1−β₁)(g − g_{t−1}),  c ← c/max(1, ‖c‖),  m, v ← EMA c, EMA c²,  p ← (1 − ηλ)p − ηm̂/(√v̂ + ε)``

    In the approximate form g_{t−1} is the gradient of the step before, of another batch.  The exact form takes the gradient
    of *this* batch at the point of the step before: step() then needs a closure, and evaluates it twice.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        betas: decay rates β₁, β₂ of the two averages, in [0, 1).
        eps: added to √v̂.
        weight_decay: strength λ of the decay.
        gamma: γ, the strength of the correction; 0.025 as in the paper.
        optimize_1d: whether vectors take part; otherwise they take plain AdamW's steps, with the two arguments that follow.
        lr_1d: their step size at the start; schedules change it in proportion to ``lr``.
        betas_1d: their decay rates.
        exact: evaluate the batch at the point of the step before too.
        variant: ``"adamw"``, ``"lion"``, or ``"shampoo"``, whose step for a matrix is its orthogonal factor: a larger ``lr``.
        options: see ``thalweg.Options``.
    """

    evaluates_itself: ClassVar[dict[str, Any]] = {"exact": True}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 3e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.95, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        gamma: float = 0.025,
        optimize_1d: bool = False,
        lr_1d: float = 3e-3,
        betas_1d: tuple[float, float] = (0.9, 0.95),
        exact: bool = False,
        variant: Literal["adamw", "lion", "shampoo"] = "adamw",
        **options: Unpack[Options],
    ) -> None:
        own = dict(
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            gamma=gamma,
            optimize_1d=optimize_1d,
            lr_1d=lr_1d,
            lr_1d_factor=1.0,
            betas_1d=betas_1d,
            exact=exact,
            variant=variant,
        )
        super().__init__(params, own, options)

    @classmethod
    def check_group(cls, group: dict[str, Any]) -> None:
        """The exact form's second gradient passes no gradient options, so it refuses them."""
        asked = [n for n in ("clip", "centralize", "normalize", "mars") if group[n]]
        if group["exact"] and (asked or (group["decay"] == "l2" and group["weight_decay"])):
            raise ValueError(
                f"MARS: exact=True compares two gradients as they are; {asked[0] if asked else 'decay'} must be left out."
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; ``lr_1d`` becomes a factor of ``lr``, whose schedules it follows."""
        known = "lr_1d_factor" in param_group
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if not known and group["lr"] > 0:
            group["lr_1d_factor"] = float(group["lr_1d"] / group["lr"])

    @torch.no_grad()
    # One signature for both of torch's overloads, with and without a closure.
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; the exact form evaluates the closure at the point of the step before, too."""
        if not any(group["exact"] for group in self.param_groups):
            return super().step(closure)
        if closure is None:
            raise ValueError("MARS: exact=True evaluates the batch at two points; call step(closure).")
        with torch.random.fork_rng(), torch.enable_grad():  # the same dropout at both points
            self._evaluate_before(closure)
        return super().step(closure)

    def _evaluate_before(self, closure: Callable[[], float]) -> None:
        """Put the gradients at the point of the step before into the state of the parameters that know that point."""
        exact = [(group, p) for group in self.param_groups if group["exact"] for p in group["params"]]
        moved = [(group, p, p.detach().clone()) for group, p in exact if "previous_param" in self.state[p]]
        if not moved:
            return
        try:
            for _, p, _ in moved:
                p.detach().copy_(self.state[p]["previous_param"])
            closure()
            for group, p, _ in moved:
                if p.grad is not None:
                    self.state[p]["previous_grad"].copy_(-p.grad if group["maximize"] else p.grad)
        finally:
            for _, p, here in moved:
                p.detach().copy_(here)
