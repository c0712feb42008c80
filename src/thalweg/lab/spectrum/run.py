"""Training a task, and probing its curvature along the way."""

import math
import time
from collections.abc import Callable
from itertools import islice
from typing import cast

from torch import Tensor

from thalweg.curvature import Eigenpairs, Hessian, Operator, eigenpairs, hessian, network_output
from thalweg.lab.records import RunConfig
from thalweg.lab.run import Trainer
from thalweg.lab.space import Schedule
from thalweg.lab.spectrum._until_merged import (
    batch_sharpness,
    density,
    layer_spectra,
    preconditioned,
    stability_threshold,
)
from thalweg.lab.spectrum.record import Portrait, Probe, Recording, Request
from thalweg.lab.tasks import Batch

TOLERANCE = 1e-2
"""Relative residual of eigenvalues; their error is of its square's order."""
VECTORS, LANCZOS_STEPS = 4, 60
"""Of the density: random vectors, and products from each."""
MINI_BATCHES = 8
"""Of the batch sharpness."""

Observer = Callable[[Recording], None]


class Watched:
    """A training run whose curvature is measured; all it sees goes into a recording."""

    def __init__(self, request: Request):
        self.request, self.task = request, request.task
        self.trainer = Trainer(_config(request), request.task)
        self.model, self.optimizer = self.trainer.model, self.trainer.optimizer
        self.recording = Recording(request, sum(p.numel() for p in self.model.parameters()))
        self.pairs: Eigenpairs | None = None
        self.first: Eigenpairs | None = None

    def run(self, tell: Observer) -> None:
        """Train to the end or until the loss is not finite; `tell` is called after every probe."""
        recording, request = self.recording, self.request
        self.probe()
        self.portrait()
        tell(recording)
        for step in range(1, request.steps + 1):
            started = time.perf_counter()
            recording.losses.append(self.trainer.step())
            recording.training_seconds += time.perf_counter() - started
            if not math.isfinite(recording.losses[-1]):
                recording.state = "diverged"
                return
            if step % request.every == 0 or step == request.steps:
                if not self.probe():
                    recording.state = "diverged"
                    return
                tell(recording)
        self.portrait()
        recording.state = "finished"

    def loss(self, batch: Batch) -> Callable[[], Tensor]:
        """The loss of a batch as a function without arguments."""
        inputs, targets = batch
        return lambda: self.task.loss(network_output(self.model(inputs)), targets)

    def probe(self) -> bool:
        """Measure the largest eigenvalues; False, and nothing recorded, where loss or gradient are not finite."""
        started = time.perf_counter()
        H = hessian(self.loss(self.task.probe), self.model)
        if not (H.loss.isfinite() and H.gradient.isfinite().all()):
            return False
        self.pairs = eigenpairs(H, min(self.request.k, H.shape[0]), tol=TOLERANCE, start=self.pairs)
        sharpness, residual, threshold = self.sharpness(H, self.pairs)
        self.recording.probes.append(
            Probe(
                step=len(self.recording.losses),
                loss=H.loss.item(),
                gradient_norm=H.space.norm(H.gradient).item(),
                eigenvalues=_numbers(self.pairs.eigenvalues),
                residuals=_numbers(self.pairs.residuals),
                sharpness=sharpness,
                residual=residual,
                threshold=threshold,
                batch_sharpness=self.batch_sharpness() if self.first is self.pairs else None,
            )
        )
        self.account(H, started)
        return True

    def sharpness(self, H: Hessian, pairs: Eigenpairs) -> tuple[float | None, float | None, float | None]:
        """λ₁ of the Hessian as the optimizer sees it, its residual and the threshold; None where they are unknown."""
        try:
            threshold = min(stability_threshold(self.optimizer))
            seen: Operator = preconditioned(H, self.optimizer)
        except (TypeError, ValueError) as error:
            self.recording.why_no_threshold = str(error)
            return None, None, None
        self.recording.why_no_threshold = ""
        self.first = pairs if seen is H else eigenpairs(seen, 1, tol=TOLERANCE, start=self.first)
        return self.first.eigenvalues[0].item(), self.first.residuals[0].item(), threshold

    def batch_sharpness(self) -> float:
        """On the first mini-batches of a stream of their own."""
        batches = islice(self.task.batches(self.request.seed + 1), MINI_BATCHES)
        return batch_sharpness([self.loss(batch) for batch in batches], self.model)

    def portrait(self) -> None:
        """Measure the whole spectrum, and that of each layer."""
        started = time.perf_counter()
        H = hessian(self.loss(self.task.probe), self.model)
        whole = density(H, vectors=VECTORS, steps=LANCZOS_STEPS)
        layers = layer_spectra(H, 1)
        self.recording.portraits.append(
            Portrait(
                step=len(self.recording.losses),
                grid=_numbers(whole.grid),
                values=_numbers(whole.values),
                trace=float(whole.trace),
                layers={name: found.eigenvalues[0].item() for name, found in layers.items()},
            )
        )
        self.account(H, started)

    def account(self, H: Hessian, started: float) -> None:
        """Note what measuring took."""
        self.recording.products += H.cost.products
        self.recording.probing_seconds += time.perf_counter() - started


def _numbers(x: Tensor) -> list[float]:
    return cast("list[float]", x.tolist())


def _config(request: Request) -> RunConfig:
    """The lab's usual run, but at a constant learning rate, so that the threshold stands still."""
    return RunConfig(
        study="spectrum",
        task=request.task.name,
        optimizer=request.entry.name,
        rule=request.entry.rule,
        rest=request.entry.rest,
        phase="tuning",
        trial=0,
        seed=request.seed,
        point={"lr": request.lr},
        keywords=request.keywords,
        schedule=Schedule(shape="constant", warmup=0),
        budget=request.steps,
        evaluations=1,
        diverged_above=math.inf,
        timeout_seconds=math.inf,
    )
