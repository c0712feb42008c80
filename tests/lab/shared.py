"""A small study, what it gives when nothing disturbs it, and ways to disturb it."""

import subprocess
import tempfile
import time
from collections import Counter
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from test_continue import descendants, measurements

from thalweg.lab.comparison import Request
from thalweg.lab.contract import Contract
from thalweg.lab.execution import workers
from thalweg.lab.execution.workers import run_all
from thalweg.lab.queue.ledger import Ledger
from thalweg.lab.records import RunConfig
from thalweg.lab.store import RunFolder, Store

__all__ = ["descendants", "measurements"]

COMPARE = ["digits-mlp", "-o", "sgd,adamw", "--trials", "2", "--seeds", "2"]
RUNS = 12


@cache
def small() -> Contract:
    return Request(["digits-mlp"], "sgd,adamw", 2, 2).contract()


class Inline:
    """Stands in for a worker process: does its runs in this process, which starts in no time."""

    ready = True

    def __init__(self, stop: Any):
        workers._stop = stop
        self.pool = self

    def start(self) -> None: ...

    def shutdown(self, cancel_futures: bool) -> None: ...

    def submit(self, config: RunConfig, folder: RunFolder) -> "Future[None]":
        future: Future[None] = Future()
        try:
            future.set_result(workers._work(config, folder))
        except Exception as error:
            future.set_exception(error)
        return future


@cache
def undisturbed() -> dict[str, Any]:
    """What the small study measures, without any worker process."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder), small())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers, "_Slot", Inline)
            patch.setattr(workers, "_stop", None, raising=False)
            assert len(list(run_all(store, 1))) == RUNS
        return measurements(Path(folder))


def wait_until_gone(processes: set[int]) -> None:
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{process}").exists() for process in processes):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)


def kill(process: "subprocess.Popen[str]") -> None:
    """kill -9, and wait for its workers to follow."""
    workers = descendants(process.pid)
    process.kill()
    process.communicate()
    wait_until_gone(workers)


def wait_until_it_works(process: "subprocess.Popen[str]", ledger: Ledger) -> None:
    """Wait until a worker has begun a run."""
    deadline = time.monotonic() + 120
    while not any(a.state == TrialState.RUNNING and a.beat is not None for a in ledger.attempts()):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def one_result_a_run(ledger: Ledger) -> None:
    """Check that every run of the small study is complete once, and that nothing is in progress."""
    states = Counter((attempt.run, attempt.state) for attempt in ledger.attempts())
    complete = {run: count for (run, state), count in states.items() if state == TrialState.COMPLETE}
    assert len(complete) == RUNS
    assert set(complete.values()) == {1}
    assert not any(state == TrialState.RUNNING for _, state in states)
