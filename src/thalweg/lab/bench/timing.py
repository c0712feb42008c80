"""Interleaved timing: every subject once a round, in a new random order, and ratios taken inside the round.

A machine's speed drifts by tens of per cent over seconds, and all subjects of a round drift together: the ratio of two
of them holds where the milliseconds of either do not.
"""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

Step = Callable[[], object]

BLOCK_SECONDS = 0.03
WARM_UP_STEPS = 4


@dataclass(frozen=True)
class Spread:
    """A median with its 10th and 90th percentile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: list[float]) -> "Spread":
        """The spread of at least one sample."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        deciles = statistics.quantiles(samples, n=10, method="inclusive")
        return cls(statistics.median(samples), deciles[0], deciles[-1])


@dataclass(frozen=True)
class Samples:
    """One subject's seconds a step, one number a round, the same rounds for all subjects.

    `host` ends when the last step has returned, `wall` when the device has finished as well; on a CPU they agree.
    """

    wall: list[float]
    host: list[float]

    def ratio(self, twin: "Samples") -> Spread:
        """Wall time over a twin's, paired round by round."""
        return Spread.of([mine / theirs for mine, theirs in zip(self.wall, twin.wall, strict=True)])


def interleave(
    steps: Mapping[str, Step], rounds: int, device: torch.device | str = "cpu", *, seed: int = 0
) -> dict[str, Samples]:
    """Time every step function `rounds` times; each must have been warmed up by `warm_up`."""
    order = list(steps)
    shuffle = random.Random(seed).shuffle
    samples = {name: Samples([], []) for name in order}
    with _no_garbage_collection():
        blocks = {name: _block_length(step, device) for name, step in steps.items()}
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                host, wall = _time_block(steps[name], blocks[name], device)
                samples[name].host.append(host)
                samples[name].wall.append(wall)
    return samples


def warm_up(step: Step, device: torch.device | str = "cpu") -> None:
    """Let a subject create its state and compile, outside any timing."""
    for _ in range(WARM_UP_STEPS):
        step()
    _synchronise(device)


def _time_block(step: Step, length: int, device: torch.device | str) -> tuple[float, float]:
    """Seconds a step over a block of steps, to the last return and to the device's end."""
    step()  # untimed: the subject before has left its own data in the caches
    _synchronise(device)
    start = time.perf_counter()
    for _ in range(length):
        step()
    returned = time.perf_counter()
    _synchronise(device)
    return (returned - start) / length, (time.perf_counter() - start) / length


def _block_length(step: Step, device: torch.device | str) -> int:
    """How many steps make a block long enough for the clock."""
    seconds = min(_time_block(step, 1, device)[1] for _ in range(3))
    return min(200, max(1, math.ceil(BLOCK_SECONDS / seconds)))


def _synchronise(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _no_garbage_collection() -> Generator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
