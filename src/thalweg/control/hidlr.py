"""Hi-DLR: a learning rate for each parameter group, where the loss along that group's move is lowest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from thalweg.control.decision import Decision, GroupReading
from thalweg.control.probe import Probe, quotient
from thalweg.control.steered import Steered
from thalweg.core.allowed import Choice, Maybe, Range, fraction
from thalweg.core.sharding import local
from thalweg.curvature.space import joined
from thalweg.rules.sgd import SGD

Shape = Literal["values", "products", "full"]


@dataclass(frozen=True, kw_only=True)
class Groupwise:
    """The constants of ``HiDLR``.

    The paper publishes neither how it samples its coefficients nor how often it refreshes; here both are chosen for cost.

    Attributes:
        form: ``"values"`` sees the loss at 0 and at ±Δₖ, 2K + 1 forward passes; ``"products"`` takes a Hessian-vector product
            for each group; ``"full"`` the same, and solves for all groups together.
        every: steps from one measurement to the next; None: 10 K, at which ``"values"`` costs 7 % of the gradients.
        average: weight of the learning rate so far.
        factor: how far one measurement may ask for another learning rate: from 1/factor to factor of it.
    """

    form: Shape = "values"
    every: int | None = None
    average: float = 0.9
    factor: float = 2.0

    def __post_init__(self) -> None:
        Choice(get_args(Shape)).check("HiDLR: form", self.form)
        Maybe(Range(1, whole=True)).check("HiDLR: every", self.every)
        fraction.check("HiDLR: average", self.average)
        Range(1.0).check("HiDLR: factor", self.factor)


class HiDLR(Steered):
    """A learning rate for each parameter group of any optimizer, from the curvature along its own move.

    ``ηₖ ← .9 ηₖ + .1 clamp(bₖ/Aₖₖ, ηₖ/2, 2ηₖ)``,  ``L(w + Σ ηₖdₖ) ≈ L − bᵀη + ½ηᵀAη``, dₖ the base's direction in group k.

    ``form="full"`` solves Aη = b.  A group along which the loss is not convex keeps its learning rate.  With one group it is
    GeN (arXiv:2407.02772).  Groups are the base's: make as many as there shall be learning rates.  A scheduler's factor stays
    one: a group's learning rate is what the scheduler put there, times what was found so far.

    As for ``DCAO``, call ``step(loss_fn)`` after ``loss.backward()``.

    Args:
        base: an optimizer, thalweg's or torch's; or parameters, for ``thalweg.SGD`` with the next three.
        lr: the learning rate to begin with.
        momentum: μ of SGD.
        weight_decay: λ of SGD.
        form, every, average, factor: see ``Groupwise``.

    Attributes: see ``Steered``; ``history[…].groups`` has what was measured of each group, the PPI among it.

    Source: arXiv:2501.06954; its coefficients ξ are here ±1 for one group at a time.
    """

    def __init__(
        self,
        base: Optimizer | ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        form: Shape = "values",
        every: int | None = None,
        average: float = 0.9,
        factor: float = 2.0,
    ) -> None:
        chosen = Groupwise(form=form, every=every, average=average, factor=factor)
        under = base if isinstance(base, Optimizer) else SGD(base, lr, momentum, weight_decay=weight_decay)
        super().__init__(under, chosen, GroupwisePolicy(chosen, under))


@dataclass
class Found:
    """What it remembers: for each group the factor of its learning rate; and the step of the next measurement."""

    factors: list[float] = field(default_factory=list[float])
    next: int = 0


class GroupwisePolicy:
    """One run under ``Groupwise``."""

    def __init__(self, settings: Groupwise, base: Optimizer) -> None:
        self.settings, self.base, self.held = settings, base, Found()

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The base's."""
        return self.base.param_groups

    @property
    def next_probe(self) -> int:
        """The step at which it measures next."""
        return self.held.next

    def decide(self, step: int, asked: float, probe: Probe | None) -> Decision:
        """The learning rates found so far; a measurement that fails leaves them as they were."""
        held, note, readings, loss = self.held, "", list[GroupReading](), math.nan
        held.factors += [1.0] * (len(self.groups) - len(held.factors))  # of groups that were added
        if probe is not None:
            held.next = step + (self.settings.every or 10 * len(self.groups))
            readings, wanted = self.measured(probe)
            loss = probe.here
            if all(map(math.isfinite, [loss, *wanted])):
                a = self.settings.average
                held.factors = [f * (a + (1 - a) * w) for f, w in zip(held.factors, wanted, strict=True)]
            else:
                note = "the loss along a group's move is not finite; the last learning rates stay"
        used = max(float(g["lr"]) * f for g, f in zip(self.groups, held.factors, strict=True))
        return Decision(
            step=step,
            asked=asked,
            used=used,
            active="groups",
            factors={"lr": tuple(held.factors)},
            loss=loss,
            cost=float(probe.cost.gradient_equivalents) if probe else 0.0,
            note=note,
            groups=tuple(readings),
        )

    def measured(self, probe: Probe) -> tuple[list[GroupReading], list[float]]:
        """b and the diagonal of A for the moves at the present learning rates, and the best ones as multiples of these."""
        moves = probe.move({"lr": tuple(self.held.factors)})
        parts = [
            [x if i == k else torch.zeros_like(x) for i, x in zip(probe.groups, moves, strict=True)]
            for k in range(len(self.groups))
        ]
        b, A = by_values(probe, parts) if self.settings.form == "values" else by_products(probe, parts)
        best = diagonal_solution(b, A)
        if self.settings.form == "full" and torch.linalg.eigvalsh(A)[0] > 0:
            best = cast(Tensor, torch.linalg.solve(A, b))
        rates = [float(group["lr"]) * f for group, f in zip(self.groups, self.held.factors, strict=True)]
        dims = [sum(p.numel() for p in group["params"]) for group in self.groups]
        measured = zip(rates, numbers(b), numbers(A.diagonal()), dims, strict=True)
        readings = [
            GroupReading(lr, slope, curvature, quotient(slope**2, curvature * n))
            for lr, slope, curvature, n in measured
        ]
        return readings, numbers(best.clamp(1 / self.settings.factor, self.settings.factor))

    def state_dict(self) -> dict[str, Any]:
        """Numbers."""
        return dict(vars(self.held))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.held = Found(list(state["factors"]), state["next"])


def diagonal_solution(b: Tensor, A: Tensor) -> Tensor:
    """bₖ/Aₖₖ; 1, the present learning rate, where the loss is not convex along the group's move."""
    d = A.diagonal()
    return torch.where(d > 0, b / d, torch.where(d.isnan(), d, torch.ones_like(b)))


def by_values(probe: Probe, parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """b and a diagonal A from the loss at 0 and at plus and minus each move."""
    seen = [probe.by_values(part, 1.0) for part in parts]
    return torch.tensor([one.slope for one in seen]), torch.diag(torch.tensor([one.curvature for one in seen]))


def by_products(probe: Probe, parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """b and A from the gradient and a product for each move."""
    H = probe.operator
    U = torch.stack([joined(local(x).to(H.space.dtype) for x in part) for part in parts])
    A = torch.stack([H.space.inner(U, H.matvec(u)) for u in U]).cpu()
    return H.space.inner(U, -H.gradient).cpu(), (A + A.T) / 2


def numbers(x: Tensor) -> list[float]:
    """The elements of a vector."""
    return [float(value) for value in x]
