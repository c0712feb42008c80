"""A study that was killed or stopped, and continued, is the study that was not."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from commands import SMALL, Command, start


def wait_for_results(folder: Path, count: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while len(list(folder.rglob("result.json"))) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def descendants(process: int) -> set[int]:
    """Return the processes a process has started, and theirs."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    found = {int(child) for task in tasks for child in task.read_text().split()}
    return found.union(*map(descendants, found))


def measurements(study: Path) -> dict[str, Any]:
    """Everything that was measured, but for the time it took."""
    found: dict[str, Any] = {}
    for result in sorted(study.rglob("result.json")):
        lines = [result.read_text(), *(result.parent / "metrics.jsonl").read_text().splitlines()]
        rows = [json.loads(line) for line in lines]
        found[str(result.parent.relative_to(study))] = [
            {k: v for k, v in row.items() if k not in ("seconds", "milliseconds")} for row in rows
        ]
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc to see the workers by")
@pytest.mark.parametrize("runs", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_killed_and_continued_equals_uninterrupted(command: Command, study: Path, tmp_path: Path, runs: int) -> None:
    folder = tmp_path / "study"
    process = start("compare", *SMALL, "--store", folder, "--jobs", 2, cwd=tmp_path)
    wait_for_results(folder, runs, process)
    workers = descendants(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    assert runs <= len(before) < 18
    done = command("compare", *SMALL, "--store", folder, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert measurements(folder) == measurements(study)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}.items()
    assert not list(folder.rglob("*.tmp"))


def test_ctrl_c_saves_and_prints_the_command_that_continues(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    process = start("compare", *SMALL, "--store", folder, cwd=tmp_path)
    wait_for_results(folder, 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    continuing = err.strip().splitlines()[-1].split()
    assert continuing[:3] == ["thalweg", "compare", "digits-mlp"]
    again = start(*continuing[1:], "--dry-run", cwd=tmp_path)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    contract = json.loads((folder / "contract.json").read_text())
    assert contract["trials"] == 3
    assert str(folder) in out
