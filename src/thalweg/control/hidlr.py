"""Hi-DLR: a learning rate for each parameter group, where the loss along that group's move is lowest."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from thalweg.control.decision import Decision, GroupReading
from thalweg.control.groups import Influence, Influences, name_of, regroup
from thalweg.control.held import Held, Remembers
from thalweg.control.probe import Probe
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
            for each group; ``"full"`` the same, and solves for all groups along which the loss is convex together, if it is
            convex in the space that they span.
        every: steps from one measurement to the next; None: 10 K.  Then ``"values"`` adds 7 to 10 % to the gradients, the
            others 20 to 33 %.
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
    GeN (arXiv:2407.02772).  A scheduler's factor stays one: a group's learning rate is what the scheduler put there, times
    what was found so far.

    As for ``DCAO``, call ``step(loss_fn)`` after ``loss.backward()``.  ``print(optimizer.ppi())`` shows what each group was
    worth.

    Args:
        base: an optimizer, thalweg's or torch's; or parameters, for ``thalweg.SGD`` with the next three.
        lr: the learning rate to begin with.
        momentum: μ of SGD.
        weight_decay: λ of SGD.
        groups: parameters by name, as ``{name: m.parameters() for name, m in model.named_children()}``: the base's groups are
            split so, each part keeping its hyperparameters.  None: they stay as they are.  Schedulers are made afterwards.
        model: the network; FSDP2 needs it, see ``Steered``.
        form, every, average, factor: see ``Groupwise``.

    Attributes: see ``Steered``; ``history[…].groups`` has what was measured of each group, the PPI among it.

    Raises:
        TypeError: groups that are no mapping; see ``Steered``.
        ValueError: a value that is not allowed; a parameter under two names or none, or not the base's.

    Source: arXiv:2501.06954; its coefficients ξ are here ±1 for one group at a time.
    """

    def __init__(
        self,
        base: Optimizer | ParamsT,
        lr: float | Tensor = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        groups: Mapping[str, Iterable[Tensor]] | None = None,
        model: nn.Module | None = None,
        form: Shape = "values",
        every: int | None = None,
        average: float = 0.9,
        factor: float = 2.0,
    ) -> None:
        chosen = Groupwise(form=form, every=every, average=average, factor=factor)
        under = base if isinstance(base, Optimizer) else SGD(base, lr, momentum, weight_decay=weight_decay)
        super().__init__(under, chosen, GroupwisePolicy(chosen, under), model)
        if groups is not None:
            regroup("HiDLR", under, groups)
            self.share()

    def ppi(self) -> Influences:
        """What the parameters of each group were worth in the steps of ``history``; printed, a table.

        Raises:
            RuntimeError: nothing was measured so far.
        """
        seen = [decision.groups for decision in self.history if decision.groups]
        if not seen:
            raise RuntimeError("HiDLR: nothing was measured so far; call step(loss_fn) first.")
        found: list[Influence] = []
        for k, (group, lr) in enumerate(zip(self.param_groups, cast(Any, self.policy).rates, strict=True)):
            own = [readings[k].ppi for readings in seen if k < len(readings)]  # groups may have been added
            known = [ppi for ppi in own if not math.isnan(ppi)]
            middle = statistics.median(known) if known else math.nan
            found.append(
                Influence(name_of(self.param_groups, k), size(group), lr, middle, own[-1] if own else math.nan)
            )
        return Influences(found)


@dataclass
class Found(Held):
    """What it remembers: for each group the factor of its learning rate; and the step of the next measurement."""

    factors: list[float] = field(default_factory=list[float])


class GroupwisePolicy(Remembers[Found]):
    """One run under ``Groupwise``."""

    def __init__(self, settings: Groupwise, base: Optimizer) -> None:
        self.settings, self.base, self.held = settings, base, Found()

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The base's."""
        return self.base.param_groups

    @property
    def rates(self) -> list[float]:
        """The learning rates found so far."""
        return [float(group["lr"]) * f for group, f in zip(self.groups, self.factors, strict=True)]

    @property
    def factors(self) -> list[float]:
        """Of each group's learning rate; 1 for one that was added."""
        return [*self.held.factors, *[1.0] * (len(self.groups) - len(self.held.factors))]

    def decide(self, step: int, asked: float, probe: Probe | None, norm: Callable[[], float]) -> Decision:
        """The learning rates found so far; a measurement that fails leaves them as they were."""
        held, note, readings, loss = self.held, "", list[GroupReading](), math.nan
        held.factors = self.factors
        if probe is not None:
            held.next = step + (self.settings.every or 10 * len(self.groups))
            try:
                readings, wanted = self.measured(probe)
                a, loss = self.settings.average, probe.here
                held.factors = [f * (a + (1 - a) * w) for f, w in zip(held.factors, wanted, strict=True)]
            except FloatingPointError as error:
                note = f"{str(error).rstrip('.')}; the last learning rates stay"
        return Decision(
            step=step,
            asked=asked,
            used=max(self.rates),
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
        if not (b.isfinite().all() and A.isfinite().all()):
            raise FloatingPointError("the loss along a group's move is not finite")
        best = full_solution(b, A) if self.settings.form == "full" else diagonal_solution(b, A)
        found = zip(self.rates, numbers(b), numbers(A.diagonal()), map(size, self.groups), strict=True)
        readings = [GroupReading(lr, slope, curvature, ppi(slope, curvature, n)) for lr, slope, curvature, n in found]
        return readings, numbers(best.clamp(1 / self.settings.factor, self.settings.factor))


def size(group: dict[str, Any]) -> int:
    """How many parameters it has, in numbers."""
    return sum(p.numel() for p in group["params"])


def ppi(slope: float, curvature: float, n: int) -> float:
    """``slope²/(curvature·n)``: 0 where the loss does not change, NaN where it is not convex."""
    if slope == 0:
        return 0.0
    return slope * (slope / (curvature * n)) if curvature > 0 else math.nan


def diagonal_solution(b: Tensor, A: Tensor) -> Tensor:
    """bₖ/Aₖₖ; 1, the present learning rate, where the loss is not convex along the group's move."""
    d = A.diagonal()
    return torch.where(d > 0, b / d, torch.ones_like(b))


def full_solution(b: Tensor, A: Tensor) -> Tensor:
    """A⁻¹b over the groups along which the loss is convex, if it is on all that they span; else the diagonal's."""
    best, convex = diagonal_solution(b, A), A.diagonal() > 0
    block = A[convex][:, convex]
    if len(block) and torch.linalg.eigvalsh(block)[0] > 0:
        best[convex] = cast(Tensor, torch.linalg.solve(block, b[convex]))
    return best


def by_values(probe: Probe, parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """b and a diagonal A from the loss at 0 and at plus and minus each move."""
    seen = torch.tensor(
        [(one.slope, one.curvature) for one in (probe.by_values(part, 1.0) for part in parts)], dtype=torch.float64
    )
    return seen[:, 0], seen[:, 1].diag()


def by_products(probe: Probe, parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """b and A from the gradient and a product for each move."""
    H = probe.operator
    U = torch.stack([joined(local(x).to(H.space.dtype) for x in part) for part in parts])
    A = torch.stack([H.space.inner(U, H.matvec(u)) for u in U]).cpu().double()
    return H.space.inner(U, -H.gradient).cpu().double(), (A + A.T) / 2


def numbers(x: Tensor) -> list[float]:
    """The elements of a vector."""
    return [float(value) for value in x]
