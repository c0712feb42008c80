"""Sharpness against the optimizer's stability threshold, while training goes on."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.core.allowed import Choice, Range
from thalweg.core.sharding import local
from thalweg.curvature.build import hessian
from thalweg.curvature.cadence import Cadence
from thalweg.curvature.hessian import Method
from thalweg.curvature.lanczos import Eigenpairs, eigenpairs
from thalweg.curvature.operators import LossFunction, LossOperator
from thalweg.curvature.sharpness import sharpness_ratio

COLD = 5
"""One probe in so many starts from a random vector: a warm start can miss an eigenvalue that has risen meanwhile."""


@dataclass(frozen=True, kw_only=True)
class CurvatureRecord:
    """What one probe found.  Numbers that it could not find are NaN.

    Attributes:
        step: how many steps the optimizer had made.
        loss: at the probe.
        gradient_norm: ‖g‖ of that loss.
        sharpness: the largest eigenvalue of the Hessian H, of P⁻¹H if the optimizer divides by P.
        threshold: what of it the optimizer bears: above, it is unstable on a quadratic.
        ratio: sharpness over threshold, 1 at the edge of stability.  Groups of different thresholds are weighed by them, and
            sharpness and threshold are those along the direction that is nearest to its edge.
        eigenvalues: (k,), the largest, descending.  In a group whose threshold is larger than the smallest they count for as
            much less, so that each is a ratio times the smallest threshold.
        residuals: (k,): an eigenvalue lies within this distance of each.
        thresholds: of each of the optimizer's groups.
        batch_sharpness: gᵀHg / gᵀg, the curvature along the gradient.  arXiv:2412.20553
        raw_sharpness: the largest eigenvalue of H, if asked for, or where the optimizer's P or threshold cannot be had.
        lr: of each group.
        products: with H, in all.
        gradient_equivalents: what the probe cost, in gradients.
        seconds: what it took.
        method: how products were made, and why so.
        error: what went wrong; "" if nothing did.
    """

    step: int
    loss: float = math.nan
    gradient_norm: float = math.nan
    sharpness: float = math.nan
    threshold: float = math.nan
    ratio: float = math.nan
    eigenvalues: tuple[float, ...]
    residuals: tuple[float, ...]
    thresholds: tuple[float, ...]
    batch_sharpness: float = math.nan
    raw_sharpness: float = math.nan
    lr: tuple[float, ...]
    products: int = 0
    gradient_equivalents: float = 0.0
    seconds: float
    method: str = ""
    error: str = ""

    def row(self) -> dict[str, Any]:
        """A flat dict: what is of several eigenvalues or groups gets a column each, ``eigenvalue_1``, ``lr_1``, …"""
        flat: dict[str, Any] = {}
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

    ``ratio = λ₁ / threshold``: λ₁ is the largest eigenvalue of the Hessian H, of P⁻¹H for optimizers that divide by P;
    the threshold is where this optimizer, at its present learning rate, stops being stable on a quadratic.  Full-batch
    training is drawn to a ratio of 1 and stays there (arXiv:2103.00065, arXiv:2207.14484).

    Call ``step`` after every step of the optimizer, and on every process.  A probe evaluates the loss in the module's present
    mode, with one dropout mask; parameters, gradients, buffers, random numbers and optimizer state stay as they
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
        method: how products with H are made, as in ``hessian``: ``"difference"`` where something has no second derivative.
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
        method: Method = "auto",
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
        Choice(get_args(Method)).check("CurvatureMonitor: method", method)
        Choice(("warn", "raise")).check("CurvatureMonitor: on_error", on_error)
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.method: Method = method
        self.k, self.tol, self.raw, self.logs, self.on_error = k, tol, raw, list(logs), on_error
        spacing = (1 if budget is not None else 100) if every is None else every
        self.cadence = Cadence(spacing, budget, local(params[0]).device, clock)
        self.before: Eigenpairs | None = None
        self.raw_before: Eigenpairs | None = None
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
                found = {"error": error}
        if "error" in found:
            found["error"] = self.noted(found["error"])
        groups = self.optimizer.param_groups
        missing: dict[str, Any] = {
            "eigenvalues": unknown(self.k),
            "residuals": unknown(self.k),
            "thresholds": unknown(len(groups)),
        }
        record = CurvatureRecord(
            **missing | found,
            step=self.cadence.steps,
            lr=tuple(float(group.get("lr", math.nan)) for group in groups),
            seconds=self.cadence.last,
        )
        self.history.append(record)
        if is_first_process():
            for log in self.logs:
                log(record)
        return record

    def measured(self, loss_fn: LossFunction) -> dict[str, Any]:
        """What a probe finds."""
        H = hessian(loss_fn, self.model, self.method)
        found: dict[str, Any] = {
            "loss": H.loss.item(),
            "gradient_norm": H.space.norm(H.gradient).item(),
            "batch_sharpness": along_gradient(H),
            "method": H.method,
        }
        try:
            found |= self.compared(H)
        except ValueError as error:  # an optimizer whose P or threshold cannot be had
            if self.on_error == "raise":
                raise
            found["error"] = error
        if self.raw or "error" in found:
            self.raw_before = eigenpairs(H, tol=self.tol, start=self.start(self.raw_before, H), seed=self.cadence.steps)
            found["raw_sharpness"] = self.raw_before.eigenvalues[0].item()
        return found | {"products": H.cost.products, "gradient_equivalents": float(H.cost.gradient_equivalents)}

    def compared(self, H: LossOperator) -> dict[str, Any]:
        """Its eigenvalues in the optimizer's metric, against what the optimizer bears."""
        start = self.start(self.before, H)
        found = sharpness_ratio(H, self.optimizer, k=self.k, tol=self.tol, start=start, seed=self.cadence.steps)
        self.before = found.pairs
        return {
            "sharpness": found.sharpness,
            "threshold": found.threshold,
            "ratio": found.ratio,
            "eigenvalues": floats(found.pairs.eigenvalues),
            "residuals": floats(found.pairs.residuals),
            "thresholds": found.thresholds,
        }

    def start(self, before: Eigenpairs | None, H: LossOperator) -> Eigenpairs | None:
        """Where to look first: near what the last probe found, if this is not to be a cold one."""
        if before is None or len(self.history) % COLD == 0 or len(before.eigenvectors) != H.space.held:
            return None
        return before

    def noted(self, error: Exception) -> str:
        """What went wrong, in a line; the first time, with a warning."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if not self.warned:
            warnings.warn(
                f"CurvatureMonitor: the probe after step {self.cadence.steps} failed, training goes on. {reason}"
                " Further failures are noted in the records alone; on_error='raise' shows where they arise.",
                stacklevel=4,
            )
        self.warned = True
        return reason

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


def along_gradient(H: LossOperator) -> float:
    """gᵀHg / gᵀg."""
    g = H.gradient
    return (H.space.inner(H.matvec(g)[None], g) / H.space.inner(g[None], g)).item()


def unknown(count: int) -> tuple[float, ...]:
    """So many NaNs."""
    return (math.nan,) * count


def floats(x: Tensor) -> tuple[float, ...]:
    """The elements of a vector."""
    return tuple(float(value) for value in x)


def is_first_process() -> bool:
    """Whether this process is the one that logs."""
    dist: Any = torch.distributed
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
