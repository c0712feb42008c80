"""Training a task, and probing its curvature along the way."""

import math
import time
import warnings
from collections.abc import Callable
from itertools import islice
from typing import cast

from torch import Tensor

from thalweg.control import Steered, as_stepped
from thalweg.curvature import (
    Eigenpairs,
    SharpnessRatio,
    batch_sharpness,
    density,
    eigenpairs,
    hessian,
    layer_spectra,
    network_output,
    sharpness_ratio,
    stability_threshold,
)
from thalweg.curvature.operators import LossOperator
from thalweg.lab.records import RunConfig
from thalweg.lab.run import Trainer
from thalweg.lab.space import Schedule
from thalweg.lab.spectrum.record import Edge, Portrait, Probe, Recording, Request
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
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            self.trainer = Trainer(_config(request), request.task)
        self.model, self.optimizer = self.trainer.model, self.trainer.optimizer
        self.recording = Recording(request, sum(p.numel() for p in self.model.parameters()))
        self.recording.advice = [str(one.message) for one in said]
        self.pairs: Eigenpairs | None = None
        self.seen: SharpnessRatio | None = None

    def run(self, tell: Observer) -> None:
        """Train to the end, or until something is not finite; `tell` is called after every probe."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "DCAO: measuring|HiDLR: measuring")  # its notes are in the recording
                self.train(tell)
        except FloatingPointError:
            self.recording.state = "diverged"
        else:
            self.recording.state = "finished"

    def train(self, tell: Observer) -> None:
        """Probe, train and probe again.

        Raises:
            FloatingPointError: a loss, a gradient or a product is not finite.
        """
        request, recording = self.request, self.recording
        self.probe()
        self.portrait()
        tell(recording)
        for step in range(1, request.steps + 1):
            started = time.perf_counter()
            loss = self.trainer.step()
            recording.losses.append(loss)
            self.decided()
            recording.training_seconds += time.perf_counter() - started
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss}.")
            if step % request.every == 0 or step == request.steps:
                self.probe()
                tell(recording)
        self.portrait()

    def decided(self) -> None:
        """Note what a controller decided for the last step."""
        if isinstance(self.optimizer, Steered):
            self.recording.decisions.append(decision := self.optimizer.history[-1])
            with as_stepped(self.optimizer) as plain:
                self.recording.thresholds.append(min(stability_threshold(plain)) if decision.used else math.inf)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        inputs, targets = batch
        return self.task.loss(network_output(self.model(inputs)), targets)

    def hessian(self) -> LossOperator:
        """The Hessian of the loss on the probe batch, here and now."""
        return hessian(lambda: self.loss(self.task.probe), self.model)

    def probe(self) -> None:
        """Measure the largest eigenvalues."""
        started = time.perf_counter()
        H = self.hessian()
        self.pairs = eigenpairs(H, min(self.request.k, H.shape[0]), tol=TOLERANCE, start=self.pairs)
        self.recording.probes.append(
            Probe(
                step=len(self.recording.losses),
                loss=H.loss.item(),
                gradient_norm=H.space.norm(H.gradient).item(),
                eigenvalues=_numbers(self.pairs.eigenvalues),
                residuals=_numbers(self.pairs.residuals),
                edge=self.edge(H),
                batch_sharpness=self.batch_sharpness(),
            )
        )
        self.account(H, started)

    def edge(self, H: LossOperator) -> Edge | None:
        """The sharpness as the optimizer sees it, against its threshold; None where one of them is not known."""
        try:
            with as_stepped(self.optimizer) as plain:
                self.seen = found = sharpness_ratio(H, plain, tol=TOLERANCE, start=self.seen)
        except ValueError as error:
            self.recording.why_no_threshold = str(error)
            return None
        if not math.isfinite(found.ratio):
            self.recording.why_no_threshold = f"it is {found.threshold:g}."
            return None
        self.recording.why_no_threshold = ""
        return Edge(found.sharpness, found.threshold, found.ratio, found.residual)

    def batch_sharpness(self) -> float | None:
        """On the first mini-batches of a stream of their own; of gradient descent, with or without momentum, alone."""
        if self.request.entry.rule != "sgd":
            return None
        batches = islice(self.task.batches(self.request.seed + 1), MINI_BATCHES)
        return batch_sharpness(self.loss, batches, self.model).mean

    def portrait(self) -> None:
        """Measure the whole spectrum, and that of each layer."""
        started = time.perf_counter()
        H = self.hessian()
        whole = density(H, vectors=VECTORS, steps=LANCZOS_STEPS)
        layers = layer_spectra(H, 1).blocks
        self.recording.portraits.append(
            Portrait(
                step=len(self.recording.losses),
                grid=_numbers(whole.grid),
                values=_numbers(whole.values),
                trace=whole.trace,
                trace_error=whole.trace_error,
                layers={name: found.eigenvalues[0].item() for name, found in layers.items()},
            )
        )
        self.account(H, started)

    def account(self, H: LossOperator, started: float) -> None:
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
        steering=request.entry.steering,
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
