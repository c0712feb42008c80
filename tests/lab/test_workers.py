"""Worker processes that die, a disk that is full, two runners on one study, and runs that want the machine alone."""

import json
import os
import random
import resource
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from commands import Command, start
from shared import COMPARE, RUNS, Inline, descendants, kill, measurements, small, undisturbed

from thalweg.lab.environment import environment
from thalweg.lab.errors import UserError
from thalweg.lab.execution import workers
from thalweg.lab.execution.lane import lane
from thalweg.lab.execution.lock import only_runner
from thalweg.lab.execution.workers import MOST_DEATHS, run_all
from thalweg.lab.records import Result, RunConfig
from thalweg.lab.store import RunFolder, Store

seeing_workers = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc to see the workers by")


def dies_on_one_run(config: RunConfig, folder: RunFolder) -> None:
    """Stands in for the work of a worker."""
    if config.path == "digits-mlp/sgd/tuning-trial001-seed0":
        raise BrokenProcessPool
    folder.begin(config, environment())
    folder.finish(Result(state="ok", value=1.0, loss=1.0))


@pytest.mark.usefixtures("inline")
def test_a_run_whose_worker_dies_each_time_has_crashed_and_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_work", dies_on_one_run)
    results = {config.path: result for config, result in run_all(Store.create(tmp_path, small()), 1)}
    crashed = results.pop("digits-mlp/sgd/tuning-trial001-seed0")
    assert crashed.state == "crashed"
    assert f"died {MOST_DEATHS} times" in crashed.message
    assert len(results) == RUNS - 1
    assert {result.state for result in results.values()} == {"ok"}
    assert len(Store.open(tmp_path).finished()) == RUNS
    assert {env.threads for env in Store.open(tmp_path).environments()} == {1}


@pytest.mark.usefixtures("inline")
def test_workers_that_die_as_they_start_stop_the_study_and_spoil_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inline, "ready", False)
    monkeypatch.setattr(workers, "_work", dies_on_one_run)
    with pytest.raises(UserError, match="died as they started"):
        list(run_all(Store.create(tmp_path, small()), 1))
    assert {result.state for result in Store.open(tmp_path).finished().values()} == {"ok"}


def spawned() -> list[int]:
    """Return the worker processes of this process."""
    with suppress(FileNotFoundError):
        return [p for p in descendants(os.getpid()) if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]
    return []


class Killer(threading.Thread):
    """Kills this process's worker so many times, each at a random moment after a run has ended since the one before."""

    def __init__(self, times: int, longest: float):
        super().__init__(daemon=True)
        self.left, self.longest, self.random = times, longest, random.Random(0)
        self.progress = threading.Event()
        self.progress.set()

    def run(self) -> None:
        while self.left:
            self.progress.wait()
            time.sleep(self.random.uniform(0, self.longest))
            for worker in spawned():
                os.kill(worker, signal.SIGKILL)
                self.left -= 1
                self.progress.clear()


def killed_workers_change_nothing(folder: Path, killer: Killer) -> None:
    ended: list[str] = []
    for config, _ in run_all(Store.create(folder, small()), 1):
        ended.append(config.path)
        killer.progress.set()
    assert len(ended) == len(set(ended)) == RUNS
    assert measurements(folder) == undisturbed()


@seeing_workers
def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    killer = Killer(1, 3.0)
    killer.start()
    killed_workers_change_nothing(tmp_path / "study", killer)
    assert killer.left == 0


@seeing_workers
@pytest.mark.slow
def test_workers_killed_at_20_random_moments_change_nothing(tmp_path: Path) -> None:
    undisturbed()
    killer = Killer(20, 6.0)
    killer.start()
    for study in count():
        killed_workers_change_nothing(tmp_path / str(study), killer)
        if killer.left == 0:
            break


@seeing_workers
@pytest.mark.slow
def test_a_runner_killed_at_20_random_moments_loses_nothing_but_the_runs_in_progress(tmp_path: Path) -> None:
    generator = random.Random(0)
    for number in range(5):
        folder, before = tmp_path / str(number), dict[Path, int]()
        for _ in range(4):
            process = start("compare", *COMPARE, "--store", folder, "--jobs", 2, cwd=tmp_path)
            time.sleep(generator.uniform(3, 15))
            kill(process)
            after = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
            assert before.items() <= after.items()
            before = after
        list(run_all(Store.create(folder, small()), 2))
        assert measurements(folder) == undisturbed()
        assert before.items() <= {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}.items()


@pytest.mark.usefixtures("inline")
def test_a_full_disk_stops_the_study_and_damages_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    store = Store.create(folder, small())
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, most))  # room for a result, and not for a curve
    try:
        with pytest.raises(UserError, match=r"study/runs/\S+ cannot be written: File too large; .* Make room there"):
            list(run_all(store, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert store.finished() == {}
    list(run_all(store, 1))
    assert measurements(folder) == undisturbed()


def test_a_second_runner_is_refused_and_told_who_the_first_is(command: Command, tmp_path: Path) -> None:
    folder = Store.create(tmp_path / "study", small()).folder
    with only_runner(folder):
        done = command("compare", *COMPARE, "--store", folder, "--quiet")
        assert done.returncode == 2
        assert f"is in use by process {os.getpid()}" in done.stderr
        assert "Traceback" not in done.stderr
        assert Store.open(folder).finished() == {}
    with only_runner(folder), pytest.raises(UserError, match="in use"), only_runner(folder):
        pass
    assert json.loads((folder / "lock").read_text()) == os.getpid()


@pytest.fixture
def own_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A lane that no other process uses, and a list to write down what happens in it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return []


def in_the_lane(events: list[str], name: str, alone: bool, leave: threading.Event) -> threading.Thread:
    def run() -> None:
        with lane(alone):
            events.append(f"{name} in")
            leave.wait(60)
            events.append(f"{name} out")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def wait_for(events: list[str], event: str) -> None:
    deadline = time.monotonic() + 60
    while event not in events:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_timed_run_has_the_lane_alone_and_is_not_kept_waiting(own_lane: list[str]) -> None:
    leave = {name: threading.Event() for name in ("one", "two", "timed", "late")}
    threads = [in_the_lane(own_lane, name, False, leave[name]) for name in ("one", "two")]
    wait_for(own_lane, "one in")
    wait_for(own_lane, "two in")
    threads.append(in_the_lane(own_lane, "timed", True, leave["timed"]))
    time.sleep(0.2)  # it is at the turnstile by now
    threads.append(in_the_lane(own_lane, "late", False, leave["late"]))
    leave["one"].set()
    wait_for(own_lane, "one out")
    time.sleep(0.2)
    assert not {"timed in", "late in"} & set(own_lane)
    leave["two"].set()
    wait_for(own_lane, "timed in")
    time.sleep(0.2)
    assert "late in" not in own_lane
    leave["timed"].set()
    leave["late"].set()
    for thread in threads:
        thread.join()
    assert own_lane[-4:] == ["timed in", "timed out", "late in", "late out"]


def test_waiting_for_the_lane_can_be_stopped(own_lane: list[str]) -> None:
    leave = threading.Event()
    thread = in_the_lane(own_lane, "timed", True, leave)
    wait_for(own_lane, "timed in")
    looks = iter([False, False, True])
    with lane(False, lambda: next(looks, True)):
        assert own_lane == ["timed in"]
    leave.set()
    thread.join()
