"""MARS: variance reduction by the change of the gradient, under AdamW or Lion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core import parts
from thalweg.core.allowed import flag, fractions, nonnegative
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Scalar, rule, zeros

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


def adam(g: Tensor, t: Scalar, m: Tensor, v: Tensor, betas: tuple[Scalar, Scalar], eps: Scalar) -> Tensor:
    """m̂ / (√v̂ + ε)."""
    b1, b2 = betas
    m, v = m.lerp_(g, 1 - b1), v.lerp_(g * g, 1 - b2)
    return m / (1 - b1**t) / ((v / (1 - b2**t)).sqrt() + eps)


@rule(
    exp_avg=zeros,
    exp_avg_sq=zeros,
    previous_grad=zeros,
    previous_param=zeros.when("exact"),
    allowed=ALLOWED,
    reach="tensor",
)
def mars_adamw(
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
    """u = m̂ / (√v̂ + ε) with both averages over c.  Yuan et al. 2024, Algorithm 2 (arXiv:2411.10438)."""
    if g.ndim < 2 and not optimize_1d:
        return adam(g, t, exp_avg, exp_avg_sq, betas_1d, eps) * lr_1d_factor
    c = corrected(g, p, t, previous_grad, previous_param, gamma, betas[0])
    return adam(c, t, exp_avg, exp_avg_sq, betas, eps)


@rule(
    exp_avg=zeros,
    exp_avg_sq=zeros,
    previous_grad=zeros,
    previous_param=zeros.when("exact"),
    allowed=ALLOWED,
    reach="tensor",
)
def mars_lion(
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
    """u = sign(m), m the average of c.  Yuan et al. 2024, Algorithm 3 (arXiv:2411.10438)."""
    if g.ndim < 2 and not optimize_1d:
        return adam(g, t, exp_avg, exp_avg_sq, betas_1d, eps) * lr_1d_factor
    c = corrected(g, p, t, previous_grad, previous_param, gamma, betas[0])
    return exp_avg.lerp_(c, 1 - betas[0]).sign()


class MARS(Optimizer, rule={"adamw": mars_adamw, "lion": mars_lion}, decay="decoupled"):
    """Make variance reduction shine: AdamW or Lion on a gradient corrected by its change.  Yuan et al. 2024 (arXiv:2411.10438).

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
        variant: ``"adamw"`` or ``"lion"``.
        options: see ``thalweg.Options``.
    """

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
        variant: Literal["adamw", "lion"] = "adamw",
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

    def check_group(self, group: dict[str, Any]) -> None:
        """The exact form's second gradient passes no gradient options, so it refuses them."""
        asked = [n for n in ("clip", "centralize", "normalize", "mars") if group[n]]
        if group["exact"] and (asked or (group["decay"] == "l2" and group["weight_decay"])):
            raise ValueError(
                f"MARS: exact=True compares two gradients as they are; {asked[0] if asked else 'decay'!s} must be left out."
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
