"""What an optimizer divides its steps by, read from its state, and a curvature in that metric."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from thalweg.core.sharding import local
from thalweg.curvature.followed import Followed, followed
from thalweg.curvature.operators import Operator
from thalweg.curvature.space import joined

NOT_IN_STATE = ("centralize", "normalize", "centralization", "eps_floor")
"""Hyperparameters that make a step depend on the gradient in ways that leave no trace in the state."""


class Preconditioned(Operator):
    """``P^-½ A P^-½``: symmetric, with the eigenvalues of P⁻¹A, P diagonal.

    Where v is an eigenvector of it, P^-½ v is the direction in the parameters.

    Attributes:
        operator: A.
        scale: the diagonal of P^-½, a vector (n,), on shards what this process holds of it.
    """

    def __init__(self, operator: Operator, scale: Tensor) -> None:
        self.operator, self.scale = operator, scale
        self.space, self.cost, self.method = operator.space, operator.cost, operator.method
        self.source = getattr(operator, "source", None)  # the names of the parameters

    def product(self, v: Tensor) -> Tensor:
        """P^-½ A P^-½ v."""
        return self.scale * self.operator.matvec(self.scale * v)


def preconditioned(operator: Operator, optimizer: torch.optim.Optimizer) -> Preconditioned:
    """``P^-½ A P^-½``, P what the optimizer divides its steps by: √v̂ + ε for Adam, 1 for SGD.

    It has the eigenvalues of P⁻¹A, which ``stability_threshold`` is about.  P is that of the state as it is now; once a step
    is made, ask anew.  Parameters are matched by identity; those that never had a gradient stay where they are, P = ∞.  As for
    thresholds, clipping and the bounds inside MARS, DOPE and ExMachina count as not reached, and ``cautious`` as off.

    Args:
        operator: A, symmetric: ``hessian(loss_fn, model)``, or any other over parameters of the optimizer.
        optimizer: thalweg's or torch's, also within Accelerate's or Lightning's wrapper.

    Raises:
        ValueError: an optimizer whose rule is not known; one whose P cannot be read from its state; a parameter that the
            optimizer does not have; no step made so far; a P that is not positive.
    """
    owner = {p: one for one in followed(optimizer) for p in one.params}
    begun = any("step" in one.state.get(p, {}) for p, one in owner.items())
    P = [diagonal(owner.get(p), p, i, operator.space.dtype, begun) for i, p in enumerate(operator.space.like)]
    return Preconditioned(operator, joined(P).to(operator.space.device).rsqrt())


def diagonal(one: Followed | None, p: Tensor, i: int, dtype: torch.dtype, begun: bool) -> Tensor:
    """P for one parameter, as far as this process holds it; ``begun``: others have made steps."""
    called = f"parameter {i} of the operator, shape {tuple(p.shape)}"
    if one is None:
        raise ValueError(f"optimizer does not have {called}; restrict the operator to parameters that it steps.")
    require_readable(one)
    rule, kept = one.rule, one.state.get(p, {})
    assert rule is not None
    if rule.metric and "step" not in kept:
        if begun:
            return torch.full_like(local(p), torch.inf, dtype=dtype, requires_grad=False)
        raise ValueError(
            f"{one.name}: {called}, has made no step, so there is no P yet; call optimizer.step() with its gradient first."
        )
    state = {n: local(kept[n]).to(dtype) for n in rule.metric if n in kept}
    value = rule.preconditioner(float(kept["step"]) if rule.metric else 0.0, state, one.group)
    P = value if isinstance(value, Tensor) else torch.full_like(local(p), value, dtype=dtype, requires_grad=False)
    if not bool((P > 0).all() & P.isfinite().all()):
        raise ValueError(
            f"{one.name}: P of {called}, is not positive and finite everywhere; eps above 0 keeps it from 0, and a"
            " smaller lr its state finite."
        )
    return P


def require_readable(one: Followed) -> None:
    """Refuse an optimizer whose P its state does not tell."""
    active = [n for n in NOT_IN_STATE if one.group.get(n) not in (None, False, 0)]
    if one.rule is None:
        reason, remedy = "its matrix B is not diagonal", "take the eigenvalues of the operator itself"
    elif one.rule.denominator is None:
        variant = f" with variant={one.group['variant']!r}" if "variant" in one.group else ""
        reason = f"the rule{variant} declares nothing diagonal that it divides by"
        remedy = "take the eigenvalues of the operator itself, or restrict it to the parameters of another rule"
    elif active:
        reason = f"{active[0]}={one.group[active[0]]!r} changes its steps by numbers that are not kept"
        remedy = f"turn {active[0]} off, or take the eigenvalues of the operator itself"
    else:
        return
    raise ValueError(f"{one.name}: the preconditioner cannot be read from its state: {reason}; {remedy}.")


def per_parameter(operator: Operator, values: Sequence[float]) -> Tensor:
    """A number for each parameter, repeated for its elements: a vector (held,)."""
    space = operator.space
    return joined(
        torch.full((local(p).numel(),), x, dtype=space.dtype, device=space.device)
        for p, x in zip(space.like, values, strict=True)
    )
