"""Worker processes of one machine: one torch thread each, runs handed out as they become ready.

A run has one thread whatever the number of workers. Sums over several threads are rounded in another order, so a result would
depend on how many processes share the machine. More cores are used by more workers.

A worker that dies is replaced, and its run done again from the beginning.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from ctypes import c_bool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from typing import Any

import torch

from thalweg.lab.environment import environment
from thalweg.lab.errors import UserError
from thalweg.lab.execution.board import Board, LocalBoard
from thalweg.lab.execution.lane import lane
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.run import execute
from thalweg.lab.store import RunFolder, Store
from thalweg.lab.untyped import untyped

THREADS = 1
"""Torch threads of a run."""
MOST_DEATHS = 3
"""A run whose worker dies so many times has crashed: more attempts would die too."""
TIMED_PHASES = frozenset({"timing"})
"""Phases whose runs have the machine alone."""

_STOPS = (signal.SIGINT, signal.SIGTERM)
_spawn = multiprocessing.get_context("spawn")
_stop: Any
"""A byte of shared memory. An Event has a lock, which a worker killed at the wrong moment would never give back."""


def run_all(store: Store, jobs: int) -> Generator[tuple[RunConfig, Result]]:
    """Do every run the study of a folder has left, yielding each as it ends: see `run_from`."""
    return run_from(LocalBoard(store), jobs)


def run_from(board: Board, jobs: int) -> Generator[tuple[RunConfig, Result]]:
    """Do every run a board has left, yielding each as it ends.

    Closing the generator, as Ctrl-C does, stops the runs in progress after their current step; they leave no result.

    Raises:
        UserError: workers die before they begin a run, or a run's files cannot be written.
    """
    with _Slots(jobs) as slots:
        while board.plan.left:
            while slots.free and (config := board.take()) is not None:
                slots.begin(config, board.folder(config))
            for config, result in slots.ended(board.patience()):
                board.end(config, result)
            yield from board.news()


def available_cores() -> int:
    """Count the cores this process may use, limits of a container included."""
    return int(untyped("joblib").cpu_count())


def died(folder: RunFolder, config: RunConfig) -> Result:
    """Store that a run's workers died, as the run's result."""
    result = Result(
        state="crashed",
        message=f"its worker process died {MOST_DEATHS} times (killed, or the machine ran out of memory)",
    )
    folder.begin(config, environment().model_copy(update={"threads": THREADS}))
    folder.finish(result)
    return result


class _Slot:
    """A worker process."""

    def __init__(self, stop: Any):
        self.stop = stop
        self.start()

    def start(self) -> None:
        """Start the worker, in place of a dead one if there was one."""
        self.pool = ProcessPoolExecutor(1, mp_context=_spawn, initializer=_become_worker, initargs=(self.stop,))
        try:
            self.started = self.pool.submit(os.getpid)
        except OSError as error:
            raise UserError(f"a worker process cannot start: {error.strerror}; give fewer --jobs.") from error

    def submit(self, config: RunConfig, folder: RunFolder) -> Future[None]:
        """Have the worker do a run."""
        try:
            return self.pool.submit(_work, config, folder)
        except BrokenProcessPool:  # it died while it had nothing to do, which costs the run no attempt
            self.start()
            return self.pool.submit(_work, config, folder)

    @property
    def ready(self) -> bool:
        """Whether the worker got as far as doing runs."""
        return self.started.done() and self.started.exception() is None


@dataclass
class _Job:
    """A run in progress."""

    config: RunConfig
    folder: RunFolder
    slot: _Slot
    deaths: int = 0
    """Workers that died in it."""
    false_starts: int = 0
    """Workers that died before they began it."""


class _Slots:
    """At most so many workers, each started when there is work for it."""

    def __init__(self, jobs: int):
        self.jobs, self.stop = jobs, _spawn.RawValue(c_bool, False)
        self.idle: list[_Slot] = []
        self.running: dict[Future[None], _Job] = {}

    def __enter__(self) -> "_Slots":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.value = True
        for slot in [*self.idle, *(job.slot for job in self.running.values())]:
            slot.pool.shutdown(cancel_futures=True)

    @property
    def free(self) -> bool:
        """Whether there is a worker for another run."""
        return len(self.running) < self.jobs

    def begin(self, config: RunConfig, folder: RunFolder) -> None:
        """Have a worker do a run."""
        with _stopped_later():
            self._submit(_Job(config, folder, self.idle.pop() if self.idle else _Slot(self.stop)))

    def _again(self, job: _Job) -> None:
        with _stopped_later():
            job.slot.start()
            self._submit(job)

    def _submit(self, job: _Job) -> None:
        self.running[job.slot.submit(job.config, job.folder)] = job

    def ended(self, patience: float | None) -> Iterator[tuple[RunConfig, Result]]:
        """Wait until a run ends, at most so many seconds; yield the runs that have."""
        if not self.running:
            time.sleep(patience or 0)
        for future in wait(self.running, patience, FIRST_COMPLETED).done:
            job = self.running.pop(future)
            result = self._result(job, future)
            if result is None:
                self._again(job)
            else:
                self.idle.append(job.slot)
                yield job.config, result

    def _result(self, job: _Job, future: Future[None]) -> Result | None:
        """Return how a run ended; None if its worker died, and another should try."""
        path = job.folder.folder / "result.json"
        try:
            future.result()
        except BrokenProcessPool:
            if not path.exists():
                return _death(job)
        except OSError as error:
            raise UserError(
                f"{job.folder.folder} cannot be written: {error.strerror}; finished runs are kept. Make room there, then give"
                " the same command again."
            ) from error
        return Result.model_validate_json(path.read_bytes())


def _death(job: _Job) -> Result | None:
    """Return what the death of a run's worker means for the run: nothing, or that it has crashed.

    Raises:
        UserError: the workers have not even begun the run.
    """
    if job.slot.ready:
        job.deaths += 1
        return died(job.folder, job.config) if job.deaths == MOST_DEATHS else None
    job.false_starts += 1
    if job.false_starts == MOST_DEATHS:
        raise UserError(
            f"{MOST_DEATHS} worker processes in a row died as they started (killed, or the machine ran out of memory);"
            " finished runs are kept. Give fewer --jobs."
        )
    return None


class _Checked(RunFolder):
    """A run's folder that takes no result after a failed write: a full disk is the machine's failure, not the run's."""

    failed: OSError | None = None

    def add(self, point: CurvePoint) -> None:
        try:
            super().add(point)
        except OSError as error:
            self.failed = error
            raise

    def finish(self, result: Result) -> None:
        if self.failed is not None:
            raise self.failed
        super().finish(result)


@contextmanager
def _stopped_later() -> Generator[None]:
    """Hold Ctrl-C and SIGTERM back while a worker starts: it would be left half made, and say so.

    The worker inherits that they are blocked, until it is ready to ignore the first: a terminal sends it to all processes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in _STOPS}
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


def _become_worker(stop: Any) -> None:
    """Set up a worker: the parent alone answers Ctrl-C, and a worker never outlives its parent."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    torch.set_num_threads(THREADS)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _stopped() -> bool:
    return _stop.value


def _work(config: RunConfig, folder: RunFolder) -> None:
    """Do a run. Its result is what is on disk: a long one sent through a pipe could be cut by a kill."""
    with lane(config.phase in TIMED_PHASES, _stopped):
        execute(config, _Checked(folder.folder), _stopped)
