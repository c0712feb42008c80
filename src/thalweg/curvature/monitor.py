"""Sharpness against the optimizer's stability threshold, while training goes on."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.core.allowed import Choice, Range
from thalweg.core.sharding import local
from thalweg.curvature.build import hessian
from thalweg.curvature.cadence import Cadence
from thalweg.curvature.lanczos import Eigenpairs, eigenpairs
from thalweg.curvature.operators import LossFunction, LossOperator, Operator
from thalweg.curvature.stability import preconditioned, stability_threshold

COLD = (
    5  # one probe in so many starts from a random vector: a warm start can miss an eigenvalue that has risen meanwhile
)


@dataclass(frozen=True)
class CurvatureRecord:
    """What one probe found.  Numbers that it could not find are NaN.

    Attributes:
        step: how many steps the optimizer had made.
        loss: at the probe.
        gradient_norm: ‖g‖ of that loss.
        eigenvalues: (k,), the largest of the Hessian H, or of P^-1/2 H P^-1/2 if the optimizer divides by P; descending.
        residuals: (k,): an eigenvalue lies within this distance of each.
        thresholds: of each of the optimizer's groups: where the largest eigenvalue begins to be too large.
        ratio: the largest eigenvalue over the smallest threshold: 1 at the edge of stability.
        batch_sharpness: gᵀHg / gᵀg, the curvature along the gradient.  arXiv:2412.20553
        raw_sharpness: the largest eigenvalue of H, if asked for, or if it is that above.
        lr: of each group.
        products: with H, in all.
        gradient_equivalents: what the probe cost, in gradients.
        seconds: what it took.
        method: how products were made, and why so.
        error: what went wrong; "" if nothing did.
    """

    step: int
    loss: float
    gradient_norm: float
    eigenvalues: tuple[float, ...]
    residuals: tuple[float, ...]
    thresholds: tuple[float, ...]
    ratio: float
    batch_sharpness: float
    raw_sharpness: float
    lr: tuple[float, ...]
    products: int
    gradient_equivalents: float
    seconds: float
    method: str
    error: str = ""

    @property
    def sharpness(self) -> float:
        """The largest eigenvalue."""
        return self.eigenvalues[0]

    @property
    def threshold(self) -> float:
        """The smallest of the groups' thresholds."""
        return min(self.thresholds)

    def row(self) -> dict[str, Any]:
        """A flat dict: what is of several eigenvalues or groups gets a column each, ``eigenvalue_1``, ``lr_1``, …"""
        flat: dict[str, Any] = {"step": self.step, "sharpness": self.sharpness, "threshold": self.threshold}
        for name, value in vars(self).items():
            if isinstance(value, tuple):
                flat |= {f"{name.removesuffix('s')}_{i}": x for i, x in enumerate(cast("tuple[float, ...]", value), 1)}
            else:
                flat[name] = value
        return flat


Log: TypeAlias = Callable[[CurvatureRecord], Any]
"""Whatever takes a record."""


class CurvatureMonitor:
    """Probes the curvature of a loss now and then during training, and leaves no trace in it.

    ``ratio = λ₁ / threshold``: λ₁ is the largest eigenvalue of the Hessian, of P^-1/2 H P^-1/2 for optimizers that divide by
    P; the threshold is where this optimizer, at its present learning rate, stops being stable on a quadratic.  Full-batch
    training is drawn to a ratio of 1 and stays there (arXiv:2103.00065, arXiv:2207.14484).

    Call ``step`` after every step of the optimizer, and on every process.  A probe evaluates the loss in the module's present
    mode, with a dropout mask of its own; parameters, gradients, buffers, random numbers and optimizer state stay as they
    are, bit for bit.

    Args:
        model: whose parameters are meant: those that require gradients.
        optimizer: torch's or thalweg's; read only.
        loss_fn: returns a scalar loss with its graph, without backward.  None: each ``step`` is given one, of its batch.
        every: a probe in so many steps; with a budget, at the most.  None: 100, with a budget 1.
        budget: what probes may take, as a share of the time of training: .05 spaces them to 5 %.  None: no limit.
        k: how many eigenvalues.
        tol: relative residual of the eigenvalues; the error of the largest is smaller.
        raw: also the largest eigenvalue of H itself, where the optimizer divides by P; costs as much again.
        logs: each is called with every record, on the first process; see ``CsvLog`` and ``TensorBoardLog``.
        on_error: ``"warn"``: a probe that fails warns once, leaves a record of why, and training goes on; ``"raise"``.
        clock: seconds, never going back.

    Attributes:
        history: the records so far.

    Raises:
        ValueError, TypeError: an argument that is not allowed; by ``step``, if there is no loss function.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: LossFunction | None = None,
        *,
        every: int | None = None,
        budget: float | None = None,
        k: int = 1,
        tol: float = 0.02,
        raw: bool = False,
        logs: Iterable[Log] = (),
        on_error: str = "warn",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        params = [p for p in model.parameters() if p.requires_grad]
        if not params:
            raise ValueError("CurvatureMonitor: no parameter of model requires a gradient.")
        n = sum(p.numel() for p in params)
        Range(1, n, closed=True, whole=True).check(f"CurvatureMonitor: k of a model of {n} parameters", k)
        Range(0.0, 1.0).check("CurvatureMonitor: tol", tol)
        Choice(("warn", "raise")).check("CurvatureMonitor: on_error", on_error)
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.k, self.raw, self.logs, self.on_error = k, raw, list(logs), on_error
        spacing = (1 if budget is not None else 100) if every is None else every
        self.cadence = Cadence(spacing, budget, local(params[0]).device, clock)
        self.top, self.top_raw = Tracked(k, tol), Tracked(1, tol)
        self.warned = False
        self.history: list[CurvatureRecord] = []

    def step(self, loss_fn: LossFunction | None = None) -> CurvatureRecord | None:
        """Count a step of the optimizer, and probe if it is time: the record, or None.

        Args:
            loss_fn: as the constructor's, for this step, in its place.
        """
        loss_fn = loss_fn or self.loss_fn
        if loss_fn is None:
            raise ValueError("CurvatureMonitor.step: no loss_fn; pass one here, or to CurvatureMonitor.")
        return self.probe(loss_fn) if self.cadence.due() else None

    def probe(self, loss_fn: LossFunction) -> CurvatureRecord:
        """Probe now, and log."""
        found: dict[str, Any] = {}
        with self.cadence.probe():
            try:
                found = self.measured(loss_fn)
            except Exception as error:
                if self.on_error == "raise":
                    raise
                found = self.failed(error)
        record = CurvatureRecord(
            step=self.cadence.steps,
            lr=tuple(float(group.get("lr", math.nan)) for group in self.optimizer.param_groups),
            seconds=self.cadence.last,
            **found,
        )
        self.history.append(record)
        if is_first_process():
            for log in self.logs:
                log(record)
        return record

    def measured(self, loss_fn: LossFunction) -> dict[str, Any]:
        """What a probe finds."""
        H = hessian(loss_fn, self.model)
        A, thresholds = matched(H, self.optimizer)
        pairs = self.top(A, self.cadence.steps)
        sharpness = pairs.eigenvalues[0].item()
        raw = self.top_raw(H, self.cadence.steps).eigenvalues[0].item() if self.raw and A is not H else math.nan
        return {
            "loss": H.loss.item(),
            "gradient_norm": H.space.norm(H.gradient).item(),
            "eigenvalues": floats(pairs.eigenvalues),
            "residuals": floats(pairs.residuals),
            "thresholds": thresholds,
            "ratio": sharpness / min(thresholds),
            "batch_sharpness": along_gradient(H),
            "raw_sharpness": sharpness if A is H else raw,
            "products": H.cost.products,
            "gradient_equivalents": float(H.cost.gradient_equivalents),
            "method": A.method,
        }

    def failed(self, error: Exception) -> dict[str, Any]:
        """What is left of a probe that failed."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())  # a line, for logs of lines
        if not self.warned:
            warnings.warn(
                f"CurvatureMonitor: the probe after step {self.cadence.steps} failed, training goes on. {reason}"
                " Further failures are noted in the records alone; on_error='raise' shows where they arise.",
                stacklevel=4,
            )
        self.warned = True
        self.top.forget()
        self.top_raw.forget()
        numbers = ("loss", "gradient_norm", "ratio", "batch_sharpness", "raw_sharpness", "gradient_equivalents")
        return dict.fromkeys(numbers, math.nan) | {
            "eigenvalues": (math.nan,) * self.k,
            "residuals": (math.nan,) * self.k,
            "thresholds": (math.nan,) * len(self.optimizer.param_groups),
            "products": 0,
            "method": "",
            "error": reason,
        }

    def to_dict(self) -> dict[str, list[Any]]:
        """The history by columns, as ``pandas.DataFrame`` takes it."""
        rows = [record.row() for record in self.history]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name, math.nan) for row in rows] for name in names}

    def state_dict(self) -> dict[str, float]:
        """The cadence, a few numbers; the next probe of a run that goes on from it starts from a random vector."""
        return self.cadence.state_dict()

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on with the cadence of an earlier run."""
        self.cadence.load_state_dict(state)


class Tracked:
    """The largest eigenvalues of operators that change little from one to the next."""

    def __init__(self, k: int, tol: float) -> None:
        self.k, self.tol = k, tol
        self.forget()

    def forget(self) -> None:
        """Start from a random vector next."""
        self.before: Eigenpairs | None = None
        self.count = 0

    def __call__(self, operator: Operator, seed: int) -> Eigenpairs:
        """Those of the next one."""
        before = self.before if self.count % COLD else None
        fits = before is not None and len(before.eigenvectors) == operator.space.held
        self.before = eigenpairs(operator, self.k, tol=self.tol, start=before if fits else None, seed=seed)
        self.count += 1
        return self.before


def matched(operator: Operator, optimizer: Optimizer) -> tuple[Operator, tuple[float, ...]]:
    """The operator whose largest eigenvalue decides on this optimizer's stability, and the threshold of each group."""
    return preconditioned(operator, optimizer), tuple(stability_threshold(optimizer))


def along_gradient(H: LossOperator) -> float:
    """gᵀHg / gᵀg."""
    g = H.gradient
    return (H.space.inner(H.matvec(g)[None], g) / H.space.inner(g[None], g)).item()


def floats(x: Tensor) -> tuple[float, ...]:
    """The elements of a vector."""
    return tuple(float(value) for value in x)


def is_first_process() -> bool:
    """Whether this process is the one that logs."""
    dist: Any = torch.distributed
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
