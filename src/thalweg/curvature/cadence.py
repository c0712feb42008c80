"""When to look at something that costs time: every so many steps, and within a share of the training's time."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch

from thalweg.core.allowed import Maybe, Range

LEAST_BUDGET = 1e-6


class Cadence:
    """Spaces probes by steps, and by time: ``probing ≤ budget · training``.

    The steps until the next probe are foretold from the pace of training, and looked at again on the way; between these
    looks no clock is read.  Processes agree on each: all of them probe, or none.

    Args:
        every: at least so many steps from one probe to the next.
        budget: the time of all probes over that of training between them, at most; None: no limit.
        device: where training runs; waited for at probes only.
        clock: seconds, never going back.

    Attributes:
        first, steps: how many had been made before, and in all.
        training, probing: seconds spent on either.
    """

    def __init__(self, every: int, budget: float | None, device: torch.device, clock: Callable[[], float]) -> None:
        Range(1, whole=True).check("CurvatureMonitor: every", every)
        Maybe(Range(LEAST_BUDGET, 1.0, closed=True)).check("CurvatureMonitor: budget", budget)
        self.every, self.budget, self.device, self.clock = every, budget, device, clock
        self.begin(0)
        self.training, self.probing, self.last = 0.0, 0.0, 0.0
        self.since: float | None = None  # when training last went on, as far as it is not counted yet

    def begin(self, step: int) -> None:
        """Count on from a step, the first that is probed being the next."""
        self.first, self.steps, self.next = step, step, step + 1

    def due(self) -> bool:
        """Count a step; whether to probe after it."""
        self.steps += 1
        if self.since is None:
            self.since = self.clock()
        if self.steps < self.next:
            return False
        wait = self.wait()
        self.next = self.steps + wait
        return wait == 0

    def wait(self) -> int:
        """Steps until one more probe is within the budget: by the pace so far, and never further than training came."""
        if self.budget is None or not self.last:
            return 0
        self.count_training()
        shortfall = (self.probing + self.last) / self.budget - self.training
        made = self.steps - self.first
        foretold = shortfall * (made - 1) / self.training if self.training else math.inf
        return agreed(max(0, math.ceil(min(foretold, made))), self.device)

    @contextmanager
    def probe(self) -> Generator[None]:
        """Within it, time is a probe's."""
        self.synchronize()
        self.count_training()
        begin = self.clock()
        try:
            yield
        finally:
            self.synchronize()
            self.since = self.clock()
            self.last = self.since - begin
            self.probing += self.last
            self.next = self.steps + self.every

    def count_training(self) -> None:
        """Add the time since training went on."""
        if self.since is not None:
            now = self.clock()
            self.training += now - self.since
            self.since = now

    def synchronize(self) -> None:
        """Wait for what an accelerator still has to do."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def state_dict(self) -> dict[str, float]:
        """What a later run needs, to go on: numbers."""
        self.count_training()
        return {name: getattr(self, name) for name in ("first", "steps", "next", "training", "probing", "last")}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from there; the time between the runs is neither training nor probing."""
        for name, value in state.items():
            setattr(self, name, value)
        self.since = None


def agreed(steps: int, device: torch.device) -> int:
    """The most that any process says."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return steps
    most = torch.tensor(steps, device=device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return int(most.item())
