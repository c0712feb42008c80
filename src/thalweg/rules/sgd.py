"""Stochastic gradient descent: plain, with Polyak's momentum, and with Nesterov's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core.allowed import Choice, finite, flag, fraction
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import COUNT, Scalar, identity, rule, zeros


@rule(
    denominator=identity,
    step=replace(COUNT, absent=1.0),  # torch's SGD saves none: its state is past the first step, all that matters here
    momentum_buffer=zeros.when("momentum"),
    allowed={
        "momentum": fraction,
        "dampening": finite,
        "nesterov": Choice((True, False, "lookahead")),
        "ema": flag,
    },
)
def sgd(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    momentum_buffer: Tensor | None,
    momentum: Scalar,
    dampening: Scalar,
    nesterov: bool | str,
    ema: bool,
) -> Tensor:
    """v ← μv + (1−τ)g, u = v; Nesterov: u = g + μv.

    Polyak 1964; Nesterov in Sutskever et al. 2013, eq. 3-4.  As in torch, dampening starts with the second step.
    """
    if momentum_buffer is None:
        return g
    tau = momentum if ema else dampening * (t > 1)
    v = momentum_buffer.mul_(momentum).add_(g * (1 - tau))
    return g * (1 - tau) + momentum * v if nesterov is True else v


class SGD(Optimizer, rule=sgd):
    """Stochastic gradient descent with optional momentum.  Same arguments and results as ``torch.optim.SGD``.

    ``v ← μv + (1−τ)g,  p ← p − ηv``; Nesterov: ``p ← p − η(g + μv)``; with ``ema``: ``v ← μv + (1−μ)g``

    The three textbook forms of momentum are one rule: the velocity form ``v ← μv − ηg, p ← p + v`` is the default at a
    constant lr, and ``ema=True`` at lr η/(1−μ) takes the default's steps at lr η.  Plain SGD needs a tuned lr for
    each problem and crawls where curvature differs much between directions; momentum helps there.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.
        momentum: μ in [0, 1); 0 keeps no state.
        dampening: τ, from the second step on, as in torch.
        weight_decay: strength λ of the L2 penalty (``decay="decoupled"`` makes it act on the parameter).
        nesterov: True takes the gradient at the stored point, which is the look-ahead point after a change of variables;
            ``"lookahead"`` stores the point itself and evaluates the closure at p − ημv.  Both trace the same iterates.
        ema: keep v as the exponential moving average of the gradient from zero; τ is then μ from the first step.
        options: see ``thalweg.Options``.

    Raises:
        ValueError: Nesterov or ``ema`` without momentum or with dampening.
    """

    evaluates_itself: ClassVar[dict[str, Any]] = {"nesterov": "lookahead"}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool | Literal["lookahead"] = False,
        ema: bool = False,
        **options: Unpack[Options],
    ) -> None:
        own = dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov, ema=ema)
        super().__init__(params, own, options)

    @classmethod
    def check_group(cls, group: dict[str, Any]) -> None:
        """Refuses combinations of momentum, dampening and form that mean nothing."""
        form = "nesterov" if group["nesterov"] else "ema" if group["ema"] else None
        if form and (not group["momentum"] or group["dampening"]):
            raise ValueError(
                f"SGD: {form}={group[form]!r} needs momentum > 0 and dampening = 0,"
                f" not {group['momentum']} and {group['dampening']}."
            )

    @torch.no_grad()
    # One signature for both of torch's overloads, with and without a closure.
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; with ``nesterov="lookahead"`` the closure is evaluated at p − ημv."""
        ahead = [group for group in self.param_groups if group["nesterov"] == "lookahead"]
        if not ahead:
            return super().step(closure)
        if closure is None:
            raise ValueError('SGD: nesterov="lookahead" evaluates the gradient itself; call step(closure).')
        stored = [(p, p.clone()) for group in ahead for p in group["params"]]
        for group in ahead:
            for p in group["params"]:
                if (v := self.state[p].get("momentum_buffer")) is not None:
                    p.sub_(v * group["momentum"] * group["lr"])
        try:
            with torch.enable_grad():
                loss = closure()
        finally:
            for p, x in stored:
                p.copy_(x)
        super().step()
        return loss
