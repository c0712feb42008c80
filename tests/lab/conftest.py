import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import SMALL, Command, Finished, start
from filelock import FileLock
from shared import Inline

from thalweg.__main__ import main
from thalweg.lab.analysis import Analysis
from thalweg.lab.execution import workers
from thalweg.lab.store import Store
from thalweg.registry import OPTIMIZERS


@pytest.fixture(autouse=True)
def _double_default() -> Iterator[None]:
    """The lab trains in torch's own default dtype, on one thread as its workers do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_optimizers_left() -> Iterator[None]:
    """A user's own optimizer is registered for the whole process; other tests go through all that are."""
    before = dict(OPTIMIZERS)
    yield
    OPTIMIZERS.clear()
    OPTIMIZERS.update(before)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `thalweg` in an empty folder; in this process, for its imports take longer than most of what is asked."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["thalweg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Finished(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are done in this process."""
    monkeypatch.setattr(workers, "_Slot", Inline)
    monkeypatch.setattr(workers, "_stop", None, raising=False)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A finished small study, to be read only; the first of the processes that test makes it for all of them."""
    own = tmp_path_factory.getbasetemp()
    place = (own if worker_id == "master" else own.parent) / "lab"
    place.mkdir(exist_ok=True)
    folder, output = place / "study", place / "stdout.txt"
    with FileLock(place / "lock"):
        if not output.exists():
            process = start("compare", *SMALL, "--store", folder, cwd=place)
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            output.write_text(out, encoding="utf-8")
    return folder


@pytest.fixture
def analysis(study: Path) -> Analysis:
    return Analysis.of(Store.open(study))
