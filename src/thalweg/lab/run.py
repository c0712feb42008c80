"""One run: train a fresh network under a budget of gradients and write its curve.

Every gradient an optimizer asks for is charged, so a method with line searches gets as much work as one without; so is
every product with the curvature, and every value of the loss, in gradient-equivalents (`thalweg.curvature.Cost`).
"""

import math
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from statistics import median
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

import thalweg
from thalweg.batchnorm import update_bn
from thalweg.control import Steered
from thalweg.core.optimizer import Optimizer
from thalweg.curvature import CountsCost, network_output
from thalweg.lab.device import clock, device
from thalweg.lab.environment import environment
from thalweg.lab.own import explained
from thalweg.lab.records import CurvePoint, Result, RunConfig, State
from thalweg.lab.sharpness import Sharpness
from thalweg.lab.space import enter_own
from thalweg.lab.store import RunFolder
from thalweg.lab.study import UNTIMED_STEPS
from thalweg.lab.tasks import Batch, Task, load_task
from thalweg.registry import STEERING

SHARPNESS_EVERY = 3
"""Points of the curve between two at which a sharpness run measures it."""


class Measured(NamedTuple):
    """What a network is worth on a held-out split: means over its examples, or what the metric says they come to."""

    loss: float
    value: float
    also: dict[str, float | None]


class Trainer:
    """A network, its optimizer and the account of what training has used.

    It is the closure of its own optimizer, or gives it the loss as a function if the optimizer says what a step used.
    """

    def __init__(self, config: RunConfig, task: Task):
        self.config, self.task = config, task
        self.device = device()
        self.model = task.model(config.seed).to(self.device)
        self.optimizer = _optimizer(config, self.model)
        self.tells_cost = isinstance(
            self.optimizer, CountsCost
        )  # once: of a protocol, it takes a tenth of a small step
        self.batches = task.batches(config.seed)
        self.batch: Batch = task.validation
        self.lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.losses: list[float] = []
        self.highest = -math.inf
        self.steps = 0
        self.charged: Fraction | int = 0  # whole, and so quick to count, until a method is charged thirds
        self.seconds = 0.0

    def on(self, batch: Batch) -> Batch:
        """Return a batch on the run's device."""
        inputs, targets = batch
        return inputs.to(self.device), targets.to(self.device)

    def loss(self) -> Tensor:
        """Return the loss of the current batch, with its graph."""
        inputs, targets = self.batch
        return self.task.loss(network_output(self.model(inputs)), targets)

    def __call__(self) -> Tensor:
        """Write the gradient of the current batch, charge it, and return the loss."""
        self.optimizer.zero_grad()
        loss = self.loss()
        cast(Any, loss).backward()
        self.charged += 1
        return loss

    def step(self) -> float:
        """Take one step of the optimizer on the next batch and return its training loss."""
        started = clock(self.device)
        factor = self.config.schedule.factor(progress(self.used, self.config.budget))
        for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
            group["lr"] = lr * factor
        self.batch = self.on(next(self.batches))
        if isinstance(self.optimizer, Steered):
            loss = self().item()
            self.optimizer.step(self.loss)
            self.charged += self.optimizer.used.gradient_equivalents
        elif self.tells_cost:
            loss = cast(Any, self.optimizer).step(self.loss).item()
            self.charged += cast(CountsCost, self.optimizer).used.gradient_equivalents
        else:
            loss = cast(Any, self.optimizer).step(self).item()
        self.seconds += clock(self.device) - started
        self.steps += 1
        self.losses.append(loss)
        self.highest = loss if math.isnan(loss) else max(self.highest, loss)
        return loss

    def evaluate(self, batch: Batch) -> Measured:
        """Return loss and metrics on a held-out batch, of the averaged weights if the optimizer keeps an average."""
        if any(group.get("average") for group in self.plain.param_groups):
            update_bn(
                [self.on(self.task.probe)], self.model, cast(Optimizer, self.plain)
            )  # statistics of the weights that are evaluated
        with self.evaluated():
            return evaluate(self.task, self.model, batch)

    @property
    def plain(self) -> torch.optim.Optimizer:
        """The optimizer itself, without what steers it."""
        return self.optimizer.base if isinstance(self.optimizer, Steered) else self.optimizer

    def evaluated(self) -> AbstractContextManager[None]:
        """Within it, the parameters are those that are judged: the averages, if the optimizer keeps any."""
        return self.plain.evaluation() if isinstance(self.plain, Optimizer) else nullcontext()

    @property
    def used(self) -> Fraction | float:
        """What counts against the budget so far."""
        return self.config.used(self.steps, self.charged)

    @property
    def lr(self) -> float:
        """The learning rate of the last step, of the first parameter group."""
        asked = float(self.optimizer.param_groups[0]["lr"])
        if not isinstance(self.optimizer, Steered) or not self.optimizer.history:
            return asked
        factor = self.optimizer.history[-1].factors.get("lr", 1.0)
        return asked * (factor[0] if isinstance(factor, tuple) else factor)

    def point(self, sharpness: Sharpness | None = None) -> CurvePoint:
        """Measure where training stands; also how curved the loss is there, if it is given what measures that."""
        loss, value, self.also = self.evaluate(self.task.validation)
        curvature, threshold = (None, None) if sharpness is None else sharpness.measure()
        train_loss = sum(self.losses) / len(self.losses) if self.losses else math.nan
        self.losses.clear()
        return CurvePoint(
            step=self.steps,
            charged=number(self.charged),
            seconds=round(self.seconds, 6),
            lr=self.lr,
            train_loss=finite(train_loss),
            validation_loss=finite(loss),
            validation=finite(value),
            sharpness=curvature,
            threshold=threshold,
        )

    def sharpness(self) -> Sharpness:
        """Begin to follow the curvature on the task's probe batch."""
        return Sharpness(self.model, self.optimizer, self.on(self.task.probe), self.task.loss)

    def result(self, state: State, first: CurvePoint, last: CurvePoint, message: str = "") -> Result:
        """Sum the run up; the test split is read here, after final runs only."""
        ok = state == "ok"
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        reads_test = ok and self.config.phase == "final"
        return Result(
            state=state,
            value=last.validation if ok else None,
            loss=last.validation_loss if ok else None,
            test=finite(self.evaluate(self.task.test).value) if reads_test else None,
            also=self.also if ok else {},
            highest=finite(self.highest),
            untrained=first.validation,
            steps=self.steps,
            charged=number(self.charged),
            seconds=round(self.seconds, 6),
            state_bytes_per_parameter=state_bytes(self.optimizer) / parameters,
            message=message,
        )


def _optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer of a run, and what steers it."""
    plain = _plain(config, model)
    if config.steering is None:
        return plain
    return STEERING[config.steering.by](base=plain, **cast(Any, config.steering.options))


def _plain(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer itself; a rule of matrices shares its learning rate and decay with that of the rest."""
    if config.rest is None:
        return thalweg.create(config.rule, model.parameters(), **config.keywords)
    shared = {name: config.keywords[name] for name in ("lr", "weight_decay")}
    return thalweg.Mixed(
        thalweg.route(model, config.rule, config.rest, matrix_options=config.keywords, rest_options=shared)
    )


def train(
    config: RunConfig, task: Task, record: Callable[[CurvePoint], None], stop: Callable[[], bool]
) -> Result | None:
    """Train the network of the configuration's seed until the budget is used up; None if stopped on the way."""
    trainer = Trainer(config, task)
    sharpness = trainer.sharpness() if config.phase == "sharpness" else None
    first = last = trainer.point(sharpness)
    record(first)
    if first.validation_loss is None:
        raise ValueError(f"task {task.name}: the untrained network's loss is not finite")
    ceiling = config.diverged_above * first.validation_loss
    for number in range(1, config.evaluations + 1):
        while trainer.used < config.budget * number // config.evaluations:
            if stop():
                return None
            loss = trainer.step()
            if not loss <= ceiling:
                return trainer.result("diverged", first, last, f"training loss {loss:.4g} at step {trainer.steps}")
            if trainer.seconds > config.timeout_seconds:
                return trainer.result("timeout", first, last, f"{trainer.seconds:.0f} CPU seconds")
        last = trainer.point(sharpness if number % SHARPNESS_EVERY == 0 else None)
        record(last)
    if last.validation is None or last.validation_loss is None or last.validation_loss > first.validation_loss:
        return trainer.result("diverged", first, last, "ended worse than the untrained network")
    return trainer.result("ok", first, last)


def time_steps(config: RunConfig, task: Task) -> Result:
    """Time a step: the median of the last of some, on the wall's clock."""
    trainer, times = Trainer(config, task), list[float]()
    for _ in range(config.budget):
        started = time.perf_counter()
        trainer.step()
        times.append(time.perf_counter() - started)
    return Result(
        state="ok",
        steps=trainer.steps,
        charged=number(trainer.charged),
        seconds=round(trainer.seconds, 6),
        milliseconds=round(1e3 * median(times[UNTIMED_STEPS:]), 4),
    )


def execute(config: RunConfig, folder: RunFolder, stop: Callable[[], bool]) -> Result | None:
    """Do a run and store it; None, and no result on disk, if `stop` said so on the way.

    An error inside the run is its result, not the study's end: it is stored with its traceback.
    """
    folder.begin(config, environment())
    try:
        enter_own()
        task = load_task(config.task, config.preset)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "DCAO: lr=")  # tuning tries these too; the result says how they did
            result = time_steps(config, task) if config.phase == "timing" else train(config, task, folder.add, stop)
    except Exception as error:
        result = Result(state=_state_of(error), message=explained(error))
    if result is not None:
        folder.finish(result)
    return result


def _state_of(error: Exception) -> State:
    # The CPU allocator reports exhaustion as a plain RuntimeError.
    short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
    return "out of memory" if short else "crashed"


def progress(used: Fraction | float, budget: int) -> float:
    """Return the part of the budget used once this step is, inside (0, 1]: no step runs at a learning rate of 0."""
    return min(float(used + 1) / (budget + 1), 1.0)


def number(charged: Fraction | int) -> float:
    """Return a count as JSON holds it: whole if it is."""
    return int(charged) if charged.denominator == 1 else round(float(charged), 3)


@torch.no_grad()
def evaluate(task: Task, model: nn.Module, batch: Batch) -> Measured:
    """Return loss and metrics on a held-out batch, which the network gets in parts."""
    model.eval()
    place, metrics, loss = next(model.parameters()).device, (task.metric, *task.also), 0.0
    rows: list[list[Tensor]] = [[] for _ in metrics]
    for start in range(0, len(batch[0]), task.rows_at_once):
        inputs, targets = (part[start : start + task.rows_at_once].to(place) for part in batch)
        outputs = model(inputs)
        loss += len(inputs) / len(batch[0]) * task.loss(outputs, targets).item()
        for found, metric in zip(rows, metrics, strict=True):
            found.append(metric.measure(outputs, targets))
    model.train()
    value, *others = (metric.sum_up(torch.cat(found)).item() for metric, found in zip(metrics, rows, strict=True))
    return Measured(loss, value, {metric.name: finite(other) for metric, other in zip(task.also, others, strict=True)})


def finite(value: float) -> float | None:
    """Return the value, or None for what JSON cannot hold."""
    return value if math.isfinite(value) else None


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Count the bytes of the tensors an optimizer keeps."""

    def size(value: Any) -> int:
        if isinstance(value, Tensor):
            return value.numel() * value.element_size()
        if isinstance(value, dict):
            return sum(map(size, cast(dict[Any, Any], value).values()))
        return sum(map(size, cast(list[Any], value))) if isinstance(value, list | tuple) else 0

    return size(dict(optimizer.state))
