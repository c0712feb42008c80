"""DCAO: any optimizer, its learning rate steered by the curvature of the loss."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from thalweg.control.cdat import CDAT
from thalweg.control.decision import Policy
from thalweg.control.direction import DirectionBound
from thalweg.control.edge import Edge, EdgePolicy
from thalweg.control.exponential import Exponential
from thalweg.control.sharpness import SharpnessBound
from thalweg.control.steered import Steered, largest
from thalweg.core.allowed import Choice
from thalweg.core.options import refuse_unknown
from thalweg.core.rule import identity
from thalweg.curvature.followed import followed
from thalweg.rules.sgd import SGD

POLICIES: dict[str, type[Edge | Exponential | CDAT]] = {"edge": Edge, "exponential": Exponential, "cdat": CDAT}


class DCAO(Steered):
    """Dynamic curvature-aware optimization: a base optimizer whose learning rate follows the curvature of the loss.

    ``η = min(asked, bound, 1.05 η₋)``: under ``policy="edge"`` the learning rate in the groups, a scheduler's too, is a
    ceiling.  A step of SGD is lowered to what the largest eigenvalue of the Hessian bears, one of a rule that divides, as
    AdamW, to what the loss bears along it; see ``Edge``.
    ``policy="exponential"`` is the law that DCAO was proposed with, see ``Exponential``; ``policy="cdat"`` is CDAT, see
    ``CDAT``.

    An existing loop changes by one argument: after ``loss.backward()``, ``optimizer.step(loss_fn)``, where ``loss_fn()``
    returns the loss of the same batch, without backward.  It is called at some steps only, to measure; model, gradients,
    random numbers and the base's state are afterwards as they were.  The base then makes its own step, at the learning rate
    decided, bit for bit as it would alone at that learning rate.  Groups keep their learning rates in proportion.

    Args:
        params: parameters or groups of them, for ``thalweg.SGD`` underneath.
        lr: the most it may be.
        momentum: μ of SGD.
        weight_decay: λ of SGD.
        base: an optimizer, thalweg's or torch's, in place of these four.
        model: the network; FSDP2 needs it, see ``Steered``.
        policy: ``"edge"``, ``"exponential"``, ``"cdat"``, or one of ``Edge``, ``Exponential``, ``CDAT`` with its constants.
        constants: of the policy, by name.

    Attributes: see ``Steered``; ``history`` has a ``Decision`` for each step.

    Raises:
        TypeError: both or neither of params and base; a constant that the policy does not have.
        ValueError: a value that is not allowed; an exponential law for a base that has no momentum or no weight decay.
    """

    def __init__(
        self,
        params: ParamsT | None = None,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        base: Optimizer | None = None,
        model: nn.Module | None = None,
        policy: str | Edge | Exponential | CDAT = "edge",
        **constants: Any,
    ) -> None:
        if (params is None) == (base is None):
            raise TypeError("DCAO: pass either params, for SGD with momentum underneath, or base=optimizer.")
        chosen = settings(policy, constants)
        under = SGD(cast(ParamsT, params), lr, momentum, weight_decay=weight_decay) if base is None else base
        super().__init__(under, chosen, begun(chosen, under), model)


def settings(policy: str | Edge | Exponential | CDAT, constants: dict[str, Any]) -> Edge | Exponential | CDAT:
    """A policy's constants."""
    if isinstance(policy, str):
        Choice(tuple(POLICIES)).check("DCAO: policy", policy)
        policy = POLICIES[policy]()
    refuse_unknown("DCAO", constants, [field.name for field in dataclasses.fields(policy)])
    return dataclasses.replace(policy, **constants)


def begun(chosen: Edge | Exponential | CDAT, base: Optimizer) -> Policy:
    """The policy of one run, for this base."""
    if isinstance(chosen, Edge):
        bound = chosen.bound
        if bound == "auto":
            bound = "sharpness" if follows_gradients(base) else "direction"
        return EdgePolicy(chosen, SharpnessBound(chosen) if bound == "sharpness" else DirectionBound(chosen))
    if isinstance(chosen, Exponential):
        for i, group in enumerate(base.param_groups):
            for name in ("momentum", "weight_decay"):
                if name not in group:
                    raise ValueError(
                        f"DCAO: policy='exponential' moves {name}, which group {i} of {type(base).__name__} does not have; use"
                        " SGD underneath, or policy='edge'."
                    )
        if advice := chosen.advice(largest(base.param_groups)):
            warnings.warn(f"DCAO: {advice}.", stacklevel=3)
    return chosen.begin()


def follows_gradients(base: Optimizer) -> bool:
    """Whether all groups move along filtered gradients, undivided: SGD's stability is that of the Hessian itself."""
    try:
        rules = [one.rule for one in followed(base)]
    except ValueError:  # a rule that is not known
        return False
    return all(rule is not None and rule.denominator is identity for rule in rules)
