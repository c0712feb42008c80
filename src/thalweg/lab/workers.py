"""Worker processes of one machine: one torch thread each, runs handed out as they become ready."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from multiprocessing.synchronize import Event

import torch

from thalweg.lab.errors import UserError
from thalweg.lab.records import Result, RunConfig
from thalweg.lab.run import execute
from thalweg.lab.store import RunFolder, Store
from thalweg.lab.study import ready, ready_after
from thalweg.lab.untyped import untyped

_stop: Event


def _become_worker(stop: Event) -> None:
    """Set up a worker: the parent alone answers Ctrl-C, and a worker never outlives its parent."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def available_cores() -> int:
    """Count the cores this process may use, limits of a container included."""
    return int(untyped("joblib").cpu_count())


def _work(config: RunConfig, folder: RunFolder) -> Result | None:
    return execute(config, folder, _stop.is_set)


def run_all(store: Store, jobs: int) -> Generator[tuple[RunConfig, Result]]:
    """Do every run a study has left, yielding each as it ends.

    Closing the generator, as Ctrl-C does, stops the runs in progress after their current step; they leave no result.

    Raises:
        UserError: a worker process died, as when the machine runs out of memory.
    """
    results = store.finished()
    if not ready(store.contract, results):
        return
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_become_worker, initargs=(stop,)) as pool:
        running: dict[Future[Result | None], RunConfig] = {}
        submitted: set[str] = set()

        def submit(configs: list[RunConfig]) -> None:
            for config in configs:
                if config.path not in submitted:
                    submitted.add(config.path)
                    running[pool.submit(_work, config, store.run(config))] = config

        try:
            submit(ready(store.contract, results))
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    config, result = running.pop(future), future.result()
                    assert result is not None, "only a stopped run has no result"
                    results[config.path] = result
                    submit(ready_after(store.contract, config, results))
                    yield config, result
        except BrokenProcessPool as error:
            raise UserError("a worker process died (killed, or out of memory); finished runs are kept.") from error
        except OSError as error:
            raise UserError(
                f"--store {store.folder} cannot be written: {error.strerror}; finished runs are kept."
            ) from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
