"""What can be measured before a step: the loss along the step, and the largest eigenvalues of its Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import torch
from torch import Tensor, nn

from thalweg.core.sharding import local, whole
from thalweg.curvature.build import hessian
from thalweg.curvature.cost import Cost
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.krylov import Krylov
from thalweg.curvature.lanczos import Eigenpairs, Which, eigenpairs
from thalweg.curvature.loss import Loss
from thalweg.curvature.operators import LossFunction, Operator
from thalweg.curvature.preconditioner import Preconditioned, per_parameter
from thalweg.curvature.space import joined

Form = Literal["values", "product"]


@dataclass(frozen=True)
class Along:
    """The loss along the base's update u, to second order: ``L(w + hu) ≈ L − h·slope + ½h²·curvature``.

    Attributes:
        loss: L at the parameters.
        slope: −gᵀu.
        curvature: uᵀHu.
    """

    loss: float
    slope: float
    curvature: float

    @property
    def finite(self) -> bool:
        """Whether all three are."""
        return all(map(math.isfinite, (self.loss, self.slope, self.curvature)))

    @property
    def lowest(self) -> float:
        """``max(−gᵀu, 0)/|uᵀHu|``: where curvature is positive, the learning rate at which the loss along u is lowest."""
        return quotient(max(self.slope, 0.0), abs(self.curvature))


MORE = 3  # products, where the first ones are doubted


NOTHING = Along(math.nan, math.nan, math.nan)
"""Where nothing was measured."""


def quotient(a: float, b: float) -> float:
    """a/b; infinite where b is 0, whatever a: nothing then bounds the step."""
    return a / b if b else math.inf


class Probe:
    """Measurements with one batch at the parameters as they are.  Nothing of model or optimizer changes by them.

    Under DistributedDataParallel all numbers are of the mean over the processes.

    Args:
        named: the parameters that require gradients, with names.
        groups: the number of each one's parameter group.
        rates: the learning rate of each as asked for; the largest is the reference.
        loss_fn: returns the loss of the batch whose gradient the parameters hold.
        move: what the optimizer would add to these parameters, its hyperparameters multiplied by factors.
        model: the network, whose parameters these are; needed where they are sharded.

    Attributes:
        draws: whether the loss function took random numbers so far.
    """

    def __init__(
        self,
        named: Sequence[tuple[str, Tensor]],
        groups: Sequence[int],
        rates: Sequence[float],
        loss_fn: LossFunction,
        move: Callable[[Mapping[str, float | tuple[float, ...]]], list[Tensor]],
        model: nn.Module | None = None,
    ) -> None:
        self.of = named if model is None else model
        self.named, self.groups, self.rates, self.move = named, groups, rates, move
        self.devices = sorted({d.index for _, p in named if (d := local(p).device).type == "cuda"})
        self.given, self.draws = loss_fn, False
        self.values = 0
        self.operators: list[Hessian] = []

    def loss_fn(self) -> Tensor:
        """The loss; ``draws`` notes whether it took random numbers: then its dropout masks are not the gradient's."""
        before = self.generators()
        loss = self.given()
        self.draws = self.draws or not all(map(torch.equal, before, self.generators()))
        return loss

    def generators(self) -> list[Tensor]:
        """The states of those that dropout draws from."""
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(i) for i in self.devices)]

    @property
    def cost(self) -> Cost:
        """Of all measurements so far."""
        costs = [Cost(values=self.values), *(H.cost for H in self.operators)]
        return Cost(*(sum(getattr(c, n) for c in costs) for n in ("values", "gradients", "products")))

    @cached_property
    def source(self) -> Loss:
        """The loss as a function of the parameters."""
        return Loss(self.loss_fn, self.of)

    @cached_property
    def operator(self) -> Hessian:
        """The Hessian."""
        self.operators.append(hessian(self.loss_fn, self.of))
        return self.operators[0]

    def update(self, lr: float) -> list[Tensor]:
        """u, what the optimizer would add per unit of reference learning rate, at this one; most rules are linear in it."""
        return [change / lr for change in self.move({"lr": lr / max(self.rates)})]

    def along(self, u: Sequence[Tensor], h: float, form: Form) -> Along:
        """The loss along u, seen at steps of h: by ``"values"`` at 0 and ±h, or at h → 0 by the gradient and a product."""
        return self.by_values(u, h) if form == "values" else self.by_product(u)

    def by_values(self, u: Sequence[Tensor], h: float) -> Along:
        """``(L₋ − L₊)/2h`` and ``(L₊ + L₋ − 2L)/h²``: exact for a quadratic; else what a step of h meets, kinks included."""
        here, ahead, back = self.here, self.value(u, h), self.value(u, -h)
        return Along(here, (back - ahead) / (2 * h), (ahead + back - 2 * here) / h**2)

    def by_product(self, u: Sequence[Tensor]) -> Along:
        """By one product with the Hessian."""
        H = self.operator
        v = joined(local(x).to(H.space.dtype) for x in u)
        slope, curvature = H.space.inner(torch.stack([-H.gradient, H.matvec(v)]), v)
        return Along(H.loss.item(), slope.item(), curvature.item())

    @cached_property
    def here(self) -> float:
        """The loss."""
        if self.operators:
            return self.operators[0].loss.item()
        return self.evaluated(self.source.stand_ins)

    def foretold(self, u: Sequence[Tensor]) -> float:
        """−gᵀu, of the gradients that the parameters hold."""
        pairs = [(p.grad, x) for (_, p), x in zip(self.named, u, strict=True)]
        along = [torch.zeros_like(local(x)) if g is None else local(g) * local(x) for g, x in pairs]
        space = self.source.space()
        v = joined(part.to(space.dtype) for part in along)
        return -space.inner(v[None], torch.ones_like(v)).item()

    def value(self, u: Sequence[Tensor], h: float) -> float:
        """L(w + hu)."""
        pairs = zip(self.source.leaves, u, strict=True)
        moved = [(leaf + h * whole(x).to(leaf.dtype)).detach().requires_grad_() for leaf, x in pairs]
        return self.evaluated(self.source.standing_in(moved))

    def evaluated(self, stand_ins: Mapping[Tensor, Tensor]) -> float:
        """The loss with other tensors in the place of parameters; it may differentiate by itself, so that gradients are on."""
        self.values += 1
        with self.source.evaluating():
            loss = self.source.at(stand_ins)
        return self.source.space().mean_number(loss.detach().double()).item()

    @property
    def weights(self) -> list[float]:
        """L^½ of each parameter, L the learning rates over the largest."""
        most = max(self.rates)
        return [(rate / most) ** 0.5 for rate in self.rates]

    @property
    def scaled_operator(self) -> Operator:
        """L^½ H L^½; H if all learning rates are equal."""
        H = self.operator
        return H if all(w == 1 for w in self.weights) else Preconditioned(H, per_parameter(H, self.weights))

    def scaled(self, v: Tensor) -> Tensor:
        """L^½ v: nothing of parameters that do not move."""
        return v if all(w == 1 for w in self.weights) else per_parameter(self.operator, self.weights) * v

    def spectrum(self, k: int, which: Which, tol: float, seed: int) -> Eigenpairs:
        """The k extreme eigenvalues of L^½ H L^½."""
        return eigenpairs(self.scaled_operator, k, which=which, tol=tol, seed=seed, confirm=k > 1)

    def sharpness(self, products: int, doubted: float) -> tuple[float, float]:
        """The largest Ritz value of L^½ H L^½ on the Krylov space of the gradient L^½ g, and its residual.

        Up to three more products are made while their sum is below ``doubted``.
        """
        krylov = Krylov(self.scaled_operator, products + MORE + 1)
        if not krylov.add(self.scaled(self.operator.gradient)):
            krylov.add_random(torch.Generator().manual_seed(0))  # at a stationary point
        value = residual = 0.0
        while krylov.multiplied < krylov.count and (
            krylov.multiplied < products or (value + residual < doubted and krylov.multiplied < products + MORE)
        ):
            krylov.step()
            values, vectors = cast("tuple[Tensor, Tensor]", torch.linalg.eigh(krylov.T))
            value = values[-1].item()
            residual = cast(Tensor, (krylov.R @ vectors[:, -1]).norm()).item()
        return value, residual

    def along_gradient(self) -> Along:
        """The loss along −Lg, g the gradients in the parameters; nothing is said of its curvature there."""
        H = self.operator
        return Along(H.loss.item(), H.space.inner(self.gradients[None], self.scaled(H.gradient)).item(), math.nan)

    @property
    def agreement(self) -> float:
        """``hᵀg / (‖g‖ max(‖g‖, ‖h‖))``, h the gradient of the loss function, g that in the parameters: it may be clipped.

        Both are multiplied by L^½, so that what is left in parameters that do not move does not count.
        """
        norm, norm_here = (
            self.operator.space.norm(x).item() for x in (self.gradients, self.scaled(self.operator.gradient))
        )
        return self.along_gradient().slope / (norm * max(norm, norm_here)) if norm else 1.0

    @cached_property
    def gradients(self) -> Tensor:
        """L^½ g, of those that the parameters hold, as a vector."""
        space = self.operator.space
        given = [torch.zeros_like(local(p)) if p.grad is None else local(p.grad) for _, p in self.named]
        return self.scaled(joined(g.to(space.dtype) for g in given))
