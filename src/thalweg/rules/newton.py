"""Newton's method with conjugate gradients: curvature by products, damped, its steps never uphill."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core.allowed import Choice, Maybe, Range, nonnegative
from thalweg.core.names import describe
from thalweg.curvature.cost import Cost
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.operators import GaussNewton, LossFunction, LossOperator
from thalweg.curvature.space import split

PRODUCTS: dict[str, type[LossOperator]] = {"hessian": Hessian, "gauss_newton": GaussNewton}
ALLOWED = {
    "lr": nonnegative,
    "products": Choice(tuple(PRODUCTS)),
    "damping": nonnegative,
    "max_iter": Range(1, whole=True),
    "tolerance": Maybe(nonnegative),
    "max_halvings": Range(0, whole=True),
}


def newton_direction(
    matvec: Callable[[Tensor], Tensor], g: Tensor, damping: float, tolerance: float, max_iter: int
) -> tuple[Tensor, Tensor]:
    """d with (B + λI)d ≈ −g, and Bd, by conjugate gradients.  Nocedal & Wright 2006, Algorithm 7.1.

    They stop at a residual of ``tolerance``·‖g‖, and where the damped curvature along the next direction is not positive:
    the sum so far is then the result, or −g if there is none.
    """
    d, r = torch.zeros_like(g), g
    p, rr = -r, r @ r
    target = tolerance**2 * rr
    for j in range(max_iter):
        Ap = matvec(p) + damping * p
        curvature = p @ Ap
        if not curvature > 0:  # NaN too
            return (d, r - g - damping * d) if j else (p, Ap - damping * p)
        alpha = rr / curvature
        d, r = d + alpha * p, r + alpha * Ap
        rr, before = r @ r, rr
        if rr <= target:
            break
        p = rr / before * p - r
    return d, r - g - damping * d


def next_damping(damping: float, ratio: float, curvature: float) -> float:
    """Levenberg–Marquardt: λ ← ⅔λ where the model foretold the loss, ratio > ¾, and ← 3/2 λ where it did not, ratio < ¼.

    Martens 2010, section 4.1.  There λ starts large; here it may start at 0, and its first growth is to a tenth of the
    curvature along the step, the least that can make a difference.
    """
    if ratio > 0.75:
        return damping * 2 / 3
    return damping if ratio >= 0.25 else max(damping * 3 / 2, curvature / 10)


class NewtonCG(torch.optim.Optimizer):
    """Newton's method for as many parameters as a network has: B is never formed, only multiplied with.

    ``(B + λI)d = −g  by conjugate gradients,  p ← p + ηαd,  α = 1, ½, ¼, … until the loss does not rise``

    ``step`` takes a loss function that returns the loss and calls no backward.  All parameters are one system.  A quadratic
    loss of up to ``max_iter`` parameters is at its minimum after one step; near any minimum convergence is fast, whatever
    its conditioning.
    λ follows the model's success; see ``next_damping``.  A step costs a gradient, ``max_iter`` products of two gradients
    each at most, and a third of a gradient for each trial of α: ``used`` tells.  It pays where many digits are wanted
    and the loss is not noisy; on mini-batches of a network it minimizes the batch.

    Args:
        params: parameters, named parameters, or groups of them with the same hyperparameters, in float32 or float64.
        lr: η, the part of the step that is tried first; 1 is Newton's.
        products: what B is: ``"hessian"``, or ``"gauss_newton"``, which has no negative curvature if the loss is convex in
            the network's outputs, and is the better model far from a minimum.
        damping: λ at the start; 0 is Newton's method.  The group's value moves with the steps.
        max_iter: conjugate gradients a step at most.
        tolerance: their relative residual at the end.  None solves what ``max_iter`` iterations can solve, a system of as few
            parameters, and stops on larger ones at Nocedal & Wright's min(½, √‖g‖): far from a minimum the model is not
            worth more.
        max_halvings: how often α is halved before the parameters are left as they were.

    Attributes:
        used: ``Cost`` of the last step.

    Sources: Nocedal & Wright 2006, Algorithm 7.1 (truncation, forcing, line search); Martens 2010 (damping, Gauss–Newton
    products).  Their line searches ask for sufficient decrease; here any step that does not raise the loss is taken, since
    close to a minimum rounding hides the difference.
    """

    used = Cost()

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        products: Literal["hessian", "gauss_newton"] = "hessian",
        damping: float = 0.0,
        max_iter: int = 100,
        tolerance: float | None = None,
        max_halvings: int = 10,
    ) -> None:
        own = dict(lr=lr, products=products, damping=damping, max_iter=max_iter, tolerance=tolerance)
        super().__init__(params, own | {"max_halvings": max_halvings})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; nothing is added if a hyperparameter is not allowed or differs from the first group's."""
        group = self.defaults | param_group
        for name, allowed in ALLOWED.items():
            allowed.check(f"NewtonCG: {name}", group[name])
        require_same([*self.param_groups, group])
        super().add_param_group(param_group)

    @torch.no_grad()
    # The loss function takes the place of torch's closure.
    def step(self, loss_fn: LossFunction | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step on the loss that ``loss_fn()`` returns, without backward; returns the loss before it.

        Raises:
            TypeError: no loss function, or one that returns no tensor; parameters neither float32 nor float64.
            ValueError: a loss function that calls backward, or whose loss is no scalar with a graph; groups that differ.
            FloatingPointError: a loss or gradient that is not finite.  Nothing has changed in any of these cases.
        """
        if loss_fn is None:
            raise TypeError("NewtonCG: step evaluates the loss itself; call step(loss_fn).")
        require_same(self.param_groups)
        params = differentiable(self.param_groups)
        loss_fn, group = repeatable(loss_fn), self.param_groups[0]
        self.used = Cost(gradients=1)
        B = PRODUCTS[group["products"]](loss_fn, params)
        require_finite(B, self.param_groups)
        g, loss, eta, eps = B.gradient, B.loss.item(), float(group["lr"]), torch.finfo(B.gradient.dtype).eps
        if eta == 0 or not g.any():
            return B.loss
        d, Bd = newton_direction(self._counted(B), g, group["damping"], residual_at_end(group, g), group["max_iter"])
        after = self._search(loss_fn, params, eta * d, loss)
        foretold = (eta * (g @ d) + eta**2 / 2 * (d @ Bd)).item()
        if -foretold > eps * abs(loss):  # a smaller change is lost in the loss's rounding
            curvature = abs((d @ Bd) / (d @ d)).item()
            for group in self.param_groups:
                group["damping"] = next_damping(group["damping"], (after - loss) / foretold, curvature)
        return B.loss

    def _counted(self, B: LossOperator) -> Callable[[Tensor], Tensor]:
        def product(v: Tensor) -> Tensor:
            self.used.products += 1
            return B.matvec(v)

        return product

    def _search(self, loss_fn: LossFunction, params: list[Tensor], s: Tensor, loss: float) -> float:
        """Move by s, s/2, s/4, … until the loss does not rise, or not at all; returns the loss after the whole s."""
        start, values = [p.clone() for p in params], list[float]()
        try:
            for k in range(self.param_groups[0]["max_halvings"] + 1):
                for p, x, part in zip(params, start, split(s, params), strict=True):
                    p.copy_(x + part / 2**k)
                self.used.values += 1
                with torch.enable_grad():  # a loss may itself differentiate
                    values.append(loss_fn().item())
                if values[-1] <= loss:  # NaN is not
                    return values[0]
            return values[0]
        finally:
            if not values or not values[-1] <= loss:
                for p, x in zip(params, start, strict=True):
                    p.copy_(x)


def residual_at_end(group: dict[str, Any], g: Tensor) -> float:
    """The relative residual at which conjugate gradients stop, not below what rounding lets them reach."""
    asked = group["tolerance"]
    if asked is None:
        solvable = g.numel() <= group["max_iter"]
        asked = 0.0 if solvable else min(0.5, (g @ g).item() ** 0.25)  # √‖g‖: Nocedal & Wright, Algorithm 7.1
    return max(asked, 10 * torch.finfo(g.dtype).eps)


def repeatable(loss_fn: LossFunction) -> LossFunction:
    """The same function, with the same random numbers at every call: another dropout mask is no progress."""
    seed = int(torch.randint(2**62, ()).item())

    def repeated() -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return loss_fn()

    return repeated


def differentiable(groups: list[dict[str, Any]]) -> list[Tensor]:
    """The parameters that are not frozen."""
    for i, group in enumerate(groups):
        for j, p in enumerate(group["params"]):
            if p.requires_grad and p.dtype not in (torch.float32, torch.float64):
                raise TypeError(
                    f"NewtonCG: {describe(groups, i, j)} is {p.dtype}; curvature needs float32 or float64 parameters."
                )
    return [p for group in groups for p in group["params"] if p.requires_grad]


def require_same(groups: list[dict[str, Any]]) -> None:
    """Refuse groups that differ: their directions would be those of different systems."""
    for group in groups[1:]:
        for name in ALLOWED:
            if group[name] != groups[0][name]:
                raise ValueError(
                    f"NewtonCG: {name}={group[name]!r} differs from the first group's {groups[0][name]!r}; all parameters"
                    " are one system, and take one step."
                )


def require_finite(B: LossOperator, groups: list[dict[str, Any]]) -> None:
    """Refuse a loss or gradient that is NaN or infinite, by the name of the first parameter concerned."""
    if not math.isfinite(B.loss.item()):
        raise FloatingPointError(f"NewtonCG: the loss is {B.loss.item()}; nothing was changed.")
    if B.gradient.isfinite().all():
        return
    places = [(i, j) for i, group in enumerate(groups) for j, p in enumerate(group["params"]) if p.requires_grad]
    for (i, j), g in zip(places, split(B.gradient, B.source.params), strict=True):
        if not g.isfinite().all():
            raise FloatingPointError(
                f"NewtonCG: the gradient of {describe(groups, i, j)} is not finite; nothing was changed."
            )
