"""One run: train a fresh network under a budget of gradients and write its curve.

Every gradient an optimizer asks for is charged, so a method with line searches gets as much work as one without.
"""

import math
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.lab import _shim as thalweg
from thalweg.lab.environment import environment
from thalweg.lab.records import CurvePoint, Result, RunConfig, State
from thalweg.lab.store import RunFolder
from thalweg.lab.tasks import Batch, Task, load_task


class Gradient:
    """The closure handed to every optimizer: loss and gradient of the current batch, counted."""

    def __init__(self, task: Task, model: nn.Module, optimizer: torch.optim.Optimizer):
        self.task, self.model, self.optimizer = task, model, optimizer
        self.charged = 0
        self.batch: Batch | None = None

    def __call__(self) -> Tensor:
        """Return the loss of the current batch after writing its gradient."""
        assert self.batch is not None
        inputs, targets = self.batch
        self.optimizer.zero_grad()
        loss = self.task.loss(self.model(inputs), targets)
        loss.backward()
        self.charged += 1
        return loss


def execute(config: RunConfig, folder: RunFolder, stop: Callable[[], bool]) -> Result | None:
    """Do a run and store it; None, and no result on disk, if `stop` said so on the way.

    An error inside the run is its result, not the study's end: it is stored with its traceback.
    """
    folder.begin(config, environment())
    try:
        result = train(config, load_task(config.task), folder.add, stop)
    except Exception as error:
        result = Result(state=_state_of(error), message=traceback.format_exc())
    if result is not None:
        folder.finish(result)
    return result


def _state_of(error: Exception) -> State:
    # The CPU allocator reports exhaustion as a plain RuntimeError.
    short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
    return "out of memory" if short else "crashed"


def train(
    config: RunConfig, task: Task, record: Callable[[CurvePoint], None], stop: Callable[[], bool]
) -> Result | None:
    """Train the network of the configuration's seed until the budget is used up; None if stopped on the way."""
    model = task.model(config.seed)
    batches = task.batches(config.seed)
    optimizer = create(config, model)
    gradient = Gradient(task, model, optimizer)
    lrs = [float(group["lr"]) for group in optimizer.param_groups]
    steps, seconds, losses = 0, 0.0, list[float]()

    def point(lr: float) -> CurvePoint:
        loss, value = evaluate(task, model, task.validation)
        train_loss = finite(sum(losses) / len(losses)) if losses else None
        return CurvePoint(
            step=steps,
            charged=gradient.charged,
            seconds=round(seconds, 6),
            lr=lr,
            train_loss=train_loss,
            validation_loss=finite(loss),
            validation=finite(value),
        )

    first = last = point(0.0)
    record(first)
    assert first.validation_loss is not None, "the untrained network's loss is not finite"
    ceiling = config.diverged_above * first.validation_loss

    def result(state: State, message: str = "") -> Result:
        ended = state == "ok"
        return Result(
            state=state,
            value=last.validation if ended else None,
            loss=last.validation_loss if ended else None,
            test=finite(evaluate(task, model, task.test)[1]) if ended and config.phase == "final" else None,
            untrained=first.validation,
            steps=steps,
            charged=gradient.charged,
            seconds=round(seconds, 6),
            state_bytes_per_parameter=state_bytes(optimizer) / sum(p.numel() for p in model.parameters()),
            message=message,
        )

    next_point = 1
    while gradient.charged < config.budget:
        if stop():
            return None
        started = time.process_time()
        factor = config.schedule.factor(progress(gradient.charged, config.budget))
        for group, lr in zip(optimizer.param_groups, lrs, strict=True):
            group["lr"] = lr * factor
        gradient.batch = next(batches)
        losses.append(optimizer.step(gradient).item())
        seconds += time.process_time() - started
        steps += 1
        if not losses[-1] <= ceiling:
            return result("diverged", f"training loss {losses[-1]:.4g} at step {steps}")
        if gradient.charged >= next_point * config.budget / config.evaluations:
            next_point = gradient.charged * config.evaluations // config.budget + 1
            last = point(lrs[0] * factor)
            record(last)
            losses.clear()
        if seconds > config.timeout_seconds:
            return result("timeout", f"{seconds:.0f} CPU seconds at step {steps}")
    if last.validation_loss is None or last.validation_loss > first.validation_loss:
        return result("diverged", "ended no better than the untrained network")
    return result("ok")


def create(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer of a run."""
    return thalweg.create(config.rule, model.parameters(), **config.keywords)


def progress(charged: int, budget: int) -> float:
    """Return the part of the budget used, kept inside (0, 1) so that neither the first nor the last step is lost."""
    return min((charged + 1) / (budget + 1), 1.0)


@torch.no_grad()
def evaluate(task: Task, model: nn.Module, batch: Batch) -> tuple[float, float]:
    """Return the loss and the metric on a held-out batch."""
    model.eval()
    inputs, targets = batch
    outputs = model(inputs)
    model.train()
    return task.loss(outputs, targets).item(), task.metric.measure(outputs, targets).item()


def finite(value: float) -> float | None:
    """Return the value, or None for what JSON cannot hold."""
    return value if math.isfinite(value) else None


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Count the bytes of the tensors an optimizer keeps."""

    def size(value: Any) -> int:
        if isinstance(value, Tensor):
            return value.numel() * value.element_size()
        if isinstance(value, dict | list | tuple):
            return sum(size(item) for item in (value.values() if isinstance(value, dict) else value))
        return 0

    return size(dict(optimizer.state))
