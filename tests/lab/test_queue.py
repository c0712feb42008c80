"""Shared studies on a journal: who does what, whatever dies when."""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from commands import Command, start
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from shared import (
    COMPARE,
    RUNS,
    Inline,
    kill,
    measurements,
    one_result_a_run,
    small,
    undisturbed,
    wait_until_it_works,
)
from sqlalchemy.exc import OperationalError

from thalweg.lab.comparison import Request
from thalweg.lab.contract import Contract
from thalweg.lab.environment import environment
from thalweg.lab.errors import UserError
from thalweg.lab.execution import workers
from thalweg.lab.execution.workers import MOST_DEATHS
from thalweg.lab.queue import storage
from thalweg.lab.queue.address import is_url, parse
from thalweg.lab.queue.beats import Silence
from thalweg.lab.queue.board import Record, SharedBoard, View
from thalweg.lab.queue.claims import claim, complete, deaths, release
from thalweg.lab.queue.fetch import fetch
from thalweg.lab.queue.inherit import inherit
from thalweg.lab.queue.journal import KernelLock
from thalweg.lab.queue.ledger import Attempt, Ledger, Terms
from thalweg.lab.queue.slurm import parse_options, submit
from thalweg.lab.records import CurvePoint, Result
from thalweg.lab.store import Store

RECORD = Record(
    environment=environment(),
    curve=[
        CurvePoint(step=0, charged=0, seconds=0, lr=0.1 + 0.2, train_loss=None, validation_loss=1 / 3, validation=1)
    ],
    result=Result(state="ok", value=1 / 7, loss=1.0),
).model_dump_json()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"journal:{tmp_path / 'shared.log'}"


@pytest.fixture
def ledger(url: str) -> Ledger:
    return Ledger.create(parse(url), small(), grace_seconds=3)


def states(ledger: Ledger) -> Counter[tuple[str, str]]:
    return Counter((attempt.run, attempt.state.name) for attempt in ledger.attempts())


def finish(ledger: Ledger) -> None:
    """Complete every run of a study, without doing any."""
    view = View(ledger)
    view.update(ledger.attempts())
    while free := view.free():
        attempt, _ = claim(ledger, free[0].path)
        assert complete(ledger, attempt, RECORD)
        view.update(ledger.attempts())


def finished(ledger: Ledger) -> bool:
    view = View(ledger)
    view.update(ledger.attempts())
    return not view.plan.left


def test_a_study_begins_with_what_those_that_it_extends_have_done(url: str, ledger: Ledger) -> None:
    finish(ledger)
    done = [attempt.run for attempt in ledger.attempts()]
    larger = Ledger.create(parse(url), Request(["digits-mlp"], "sgd,adamw,momentum", 2, 3).contract())
    other = Ledger.create(parse(url), Request(["digits-mlp"], "sgd,adamw", 1, 2).contract())
    for _ in range(2):
        inherit(larger)
        inherit(other)
        assert states(larger) == {(run, "COMPLETE"): 1 for run in done}
        assert other.attempts() == []
    view = View(larger)
    view.update(larger.attempts())
    assert {path.split("/")[1] for path in view.plan.left} == {"sgd", "adamw", "momentum"}
    finish(larger)
    assert finished(larger)
    inherit(ledger)  # the smaller one takes nothing of the larger
    assert [attempt.run for attempt in ledger.attempts()] == done


def test_of_many_that_claim_the_same_runs_one_gets_each(url: str, ledger: Ledger) -> None:
    runs = [f"run{number}" for number in range(6)]

    def claim_all(seed: int) -> list[str]:
        mine = Ledger.find(parse(url), small().hash)
        order = random.Random(seed).sample(runs, len(runs))
        return [run for run in order if claim(mine, run)[0] is not None]

    with ThreadPoolExecutor(4) as pool:
        claimed = [run for got in pool.map(claim_all, range(4)) for run in got]
    assert len(claimed) == len(set(claimed))
    counts = states(ledger)
    assert {counts[run, "RUNNING"] for run in runs} <= {0, 1}
    assert Counter(run for run, state in counts if state == "RUNNING") == Counter(claimed)


class Died(Exception):
    """The worker was killed."""


class Mortal:
    """A ledger whose worker is killed before one of its operations, or right after it."""

    def __init__(self, ledger: Ledger, operations: int, after: bool):
        self._ledger, self._left, self._after = ledger, operations, after

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self._ledger, name)

        def mortal(*arguments: Any) -> Any:
            self._left -= 1
            if self._left < 0 and not self._after:
                raise Died
            done = operation(*arguments)
            if self._left < 0:
                raise Died
            return done

        return mortal


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("operations", range(6))
def test_a_worker_that_dies_between_any_two_operations_loses_and_doubles_nothing(
    ledger: Ledger, operations: int, after: bool
) -> None:
    mortal: Any = Mortal(ledger, operations, after)
    with suppress(Died):
        attempt, _ = claim(mortal, "run")
        complete(mortal, attempt, RECORD)
    for number in range(2):  # whoever comes next first waits until it must be dead
        for silent in ledger.attempts():
            if silent.state == TrialState.RUNNING:
                ledger.end(silent.id, TrialState.FAIL)
        attempt, _ = claim(ledger, "run")
        if attempt is not None:
            assert complete(ledger, attempt, RECORD)
        assert states(ledger)["run", "COMPLETE"] == 1, number
    assert [a.record for a in ledger.attempts() if a.state == TrialState.COMPLETE] == [RECORD]


def test_the_result_of_a_worker_taken_for_dead_is_dropped(ledger: Ledger) -> None:
    slow, _ = claim(ledger, "run")
    assert ledger.end(slow, TrialState.FAIL)
    quick, _ = claim(ledger, "run")
    assert not complete(ledger, slow, "late")
    assert complete(ledger, quick, "in time")
    assert not complete(ledger, slow, "later")
    assert not ledger.end(quick, TrialState.FAIL)
    assert [a.record for a in ledger.attempts() if a.live] == ["in time"]


def test_a_rival_that_failed_in_between_leaves_the_run_to_the_next(ledger: Ledger) -> None:
    first = ledger.begin("run")
    second = ledger.begin("run")
    ledger.end(first, TrialState.FAIL)
    third, attempts = claim(ledger, "run")
    assert third is None
    assert [a.id for a in attempts if a.live] == [second, attempts[-1].id]


def attempt(id: int, beat: int | None) -> Attempt:
    return Attempt(id, id, "run", False, TrialState.RUNNING, beat, False, None)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def silent_after(looks: list[tuple[float, int | None]], grace: float = 60) -> list[bool]:
    """Whether an attempt counts as silent at each look, (seconds since the one before, its beat)."""
    clock = Clock()
    silence, found = Silence(grace, clock), []
    for seconds, beat in looks:
        clock.now += seconds
        found.append(bool(silence.too_long([attempt(1, beat)])))
    return found


def test_silence_is_counted_from_the_last_new_beat() -> None:
    assert silent_after([(10, 0)] * 8) == [False] * 7 + [True]
    assert silent_after([(10, None)] * 8) == [False] * 7 + [True]
    assert silent_after([(10, 0)] * 6 + [(10, 1)] * 8) == [False] * 13 + [True]
    assert not any(silent_after([(10, beat) for beat in range(50)]))


def test_time_in_which_nobody_looked_proves_nothing() -> None:
    assert silent_after([(0, 0), (3600, 0), (1, 0)]) == [False] * 3, "this process was suspended, or the database away"
    assert silent_after([(0, 0), (3600, 0), (10, 1)]) == [False] * 3


@given(st.lists(st.floats(0, 9), min_size=1, max_size=60), st.floats(0, 10))
def test_a_worker_that_beats_six_times_a_grace_is_never_taken_for_dead(waits: list[float], offset: float) -> None:
    looked, looks = 0.0, []
    for wait in waits:
        looked += wait
        looks.append((wait, int((looked + offset) / 10)))
    assert not any(silent_after(looks))


def test_a_run_that_kills_its_workers_has_crashed(ledger: Ledger) -> None:
    poison = View(ledger).free()[0].path
    for _ in range(MOST_DEATHS):
        doomed, _ = claim(ledger, poison)
        ledger.end(doomed, TrialState.FAIL)
    for config in View(ledger).free()[1:]:
        release(ledger, claim(ledger, config.path)[0])  # given up, which is no death
    with SharedBoard(ledger) as board:
        taken = []
        while (config := board.take()) is not None:
            taken.append(config.path)
        news = board.news()
    assert poison not in taken
    assert len(taken) == 3
    assert [(config.path, result.state) for config, result in news] == [(poison, "crashed")]
    assert states(ledger)[poison, "COMPLETE"] == 1
    assert not any(state == "RUNNING" for _, state in states(ledger)), "closing the board gives its runs up"


def test_the_runs_of_a_silent_worker_are_freed(ledger: Ledger) -> None:
    with SharedBoard(ledger) as board:
        runs = {config.path for config in board.view.free()}
        for run in runs:
            claim(ledger, run)
        clock = Clock()
        board._silence = Silence(3, clock)
        assert board.take() is None
        for _ in range(8):
            board.news()
            clock.now += 0.7
        assert {board.take().path for _ in runs} == runs


def test_what_is_fetched_is_what_was_handed_in(ledger: Ledger, tmp_path: Path) -> None:
    finish(ledger)
    store = Store.create(tmp_path / "study", small())
    for _ in range(2):
        fetch(ledger, store)
        assert len(store.finished()) == RUNS
    config = next(iter(View(ledger).plan.left.values()))
    assert store.finished()[config.path].value == 1 / 7
    assert store.run(config).curve() == Record.model_validate_json(RECORD).curve
    assert store.environments() == [environment()]


def test_a_contract_with_names_that_are_paths_is_refused(url: str, ledger: Ledger) -> None:
    for bad in ("../../etc", "..", "/tmp/x", ""):
        evil = small().model_copy(update={"suite": bad})
        with pytest.raises(UserError, match="is damaged"):
            Ledger.create(parse(url), Contract.model_validate(evil.model_dump()))


def test_runs_that_the_contract_does_not_ask_for_are_not_seen(ledger: Ledger) -> None:
    for run in ("../../etc/passwd", "digits-mlp/sgd/final-trial000-seed7"):
        assert complete(ledger, claim(ledger, run)[0], RECORD)
    assert View(ledger).update(ledger.attempts()) == []


def test_a_journal_with_a_torn_end_is_mended(url: str, ledger: Ledger, tmp_path: Path) -> None:
    journal = tmp_path / "shared.log"
    whole = journal.read_bytes()
    for torn in (b'{"op_code":4,"wor', b"x" * 200_000):
        journal.write_bytes(whole + torn)
        assert Ledger.find(parse(url), small().hash).attempts() == ledger.attempts()
        lock = KernelLock(str(journal))
        lock.acquire()
        lock.release()
        assert journal.read_bytes() == whole
    assert claim(ledger, "run")[0] is not None
    assert len(Ledger.find(parse(url), small().hash).attempts()) == 1


def test_only_names_of_schemes_are_urls() -> None:
    assert is_url("journal:shared.log")
    assert is_url("PostgreSQL://host/db")
    for folder in ("studies/a", "./a:b", "C:\\studies", "", None):
        assert not is_url(folder)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://ann:s3cret@host:5433/db", "postgresql://ann:***@host:5433/db"),
        ("postgresql://ann@host/db?password=s3cret&sslmode=require", "postgresql://ann:***@host/db"),
        ("postgresql://ann@host/db", "postgresql://ann@host/db"),
        ("postgresql:///db", "postgresql:///db"),
    ],
)
def test_an_address_says_no_password(url: str, said: str) -> None:
    address = parse(url)
    assert str(address) == address.said == said
    assert "s3cret" not in repr(address)
    assert address.without_password("no s3cret here") == ("no *** here" if address.password else "no s3cret here")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://ann:s3cret@host/db", "begins with mysql:"),
        ("sqlite:///s3cret.db", "begins with sqlite:"),
        ("postgresql://ann:s3cret@host:port/db", "cannot be read"),
        ("postgresql:s3cret", "cannot be read"),
        ("postgresql://ann:p@s3cret@host/db", "write %40"),
        ("postgresql://ann:s3cret@host", "without a database"),
        ("journal:", "must be postgresql://"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_said(command: Command, url: str, words: str) -> None:
    for line in (["worker", "abc"], ["compare", *COMPARE], ["status", "abc"]):
        done = command(*line, "--store", url)
        assert done.returncode == 2
        assert words in done.stderr
        assert "s3cret" not in done.stdout + done.stderr


def test_a_store_that_holds_no_such_study_says_what_it_holds(
    command: Command, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "shared.log does not exist; begin" in command("worker", "abc", "--store", url).stderr
    assert list(tmp_path.iterdir()) == []
    Ledger.create(parse(url), small())
    assert f"'zzz' is no study of {url}; it holds {small().hash}" in command("worker", "zzz", "--store", url).stderr
    (tmp_path / "other.txt").write_text("A letter.\nAnother line.\n")
    assert "is no journal of Optuna" in command("status", "a", "--store", f"journal:{tmp_path}/other.txt").stderr
    assert "--store is not given" in command("worker", "abc").stderr
    assert "--store is not the URL of a storage" in command("worker", "abc", "--store", tmp_path).stderr
    monkeypatch.setenv("THALWEG_STORE", url)
    assert f"'abc' is no study of {url}" in command("worker", "abc").stderr


def test_a_machine_with_another_task_is_refused(command: Command, url: str) -> None:
    task = small().tasks[0].model_copy(update={"data_hash": "0123"})
    other = small().model_copy(update={"tasks": [task]})
    ledger = Ledger.create(parse(url), Contract.model_validate(other.model_dump()))
    done = command("worker", ledger.contract.hash[:6], "--store", url)
    assert done.returncode == 2
    assert "task digits-mlp is another one here: its data_hash is" in done.stderr
    assert ledger.attempts() == []


def test_a_database_that_is_away_is_waited_for(url: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(storage.time, "sleep", waits.append)
    away = iter([OperationalError("SELECT", {}, Exception("no s3cret\nmore"))] * 3)

    def operation(_: object) -> str:
        for error in away:
            raise error
        return "back"

    assert ledger._storage(operation) == "back"
    assert waits == [1.0, 2.0, 4.0]
    away = iter([OperationalError("SELECT s3cret", {}, Exception("gone\nmore"))] * 99)
    with pytest.raises(UserError) as caught:
        ledger._storage(operation)
    assert str(caught.value) == f"--store {url}: gone"


def test_an_interrupt_in_the_middle_of_a_claim_gives_the_run_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(ledger: Ledger, run: str) -> None:
        ledger.begin(run)
        raise KeyboardInterrupt

    monkeypatch.setattr("thalweg.lab.queue.board.claim", interrupted)
    with pytest.raises(KeyboardInterrupt), SharedBoard(ledger) as board:
        board.take()
    (attempt,) = ledger.attempts()
    assert (attempt.state, attempt.released) == (TrialState.FAIL, True)


def test_an_interrupt_while_runs_are_inherited_gives_the_run_up(
    url: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(ledger: Ledger, attempt: int, record: str) -> None:
        raise KeyboardInterrupt

    finish(ledger)
    larger = Ledger.create(parse(url), Request(["digits-mlp"], "sgd,adamw,momentum", 2, 3).contract())
    monkeypatch.setattr("thalweg.lab.queue.inherit.complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        inherit(larger)
    (attempt,) = larger.attempts()
    assert (attempt.state, attempt.released) == (TrialState.FAIL, True)


def test_a_stopped_worker_gives_its_runs_up_and_others_end_the_study_as_if_undisturbed(
    url: str, ledger: Ledger, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("worker", ledger.contract.hash, "--store", url, "--jobs", 1, cwd=tmp_path)
    wait_until_it_works(process, ledger)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == f"Stopped. Continue with:\n  thalweg worker {small().hash} --store '{url}'\n"
    assert not any(a.state == TrialState.RUNNING for a in ledger.attempts())
    assert all(a.released for a in ledger.attempts() if a.state == TrialState.FAIL)

    monkeypatch.setattr(workers, "_Slot", Inline)
    monkeypatch.setattr(workers, "_stop", None, raising=False)
    done = command("compare", *COMPARE, "--store", url, "--jobs", "1")
    assert done.returncode == 0, done.stderr
    one_result_a_run(ledger)
    study = next((tmp_path / "studies").iterdir())
    assert measurements(study) == undisturbed()
    assert f"{RUNS} of {RUNS} runs done" in command("status", small().hash, "--store", url).stdout
    written = command("report", small().hash[:6], "--store", url).stdout.strip()
    assert written == str(study.relative_to(tmp_path) / "report.html")
    summary = json.loads(command("worker", small().hash, "--store", url, "--json").stdout)
    assert summary == {"study": small().hash, "runs": RUNS, "done_here": 0}


@pytest.mark.slow
def test_workers_killed_at_20_random_moments_lose_and_double_nothing(command: Command, tmp_path: Path) -> None:
    generator, kills = random.Random(0), 0
    for study in count():
        url = f"journal:{tmp_path / str(study)}.log"
        ledger = Ledger.create(parse(url), small(), grace_seconds=3)
        # A run in which three workers die has crashed, which would be right, and another result.
        while (
            max(deaths(ledger.attempts()).values(), default=0) < MOST_DEATHS - 1 and not finished(ledger) and kills < 20
        ):
            process = start("worker", ledger.contract.hash, "--store", url, "--jobs", 2, cwd=tmp_path)
            time.sleep(generator.uniform(3, 15))
            kill(process)
            kills += 1
        assert command("compare", *COMPARE, "--store", url, "--jobs", "1").returncode == 0
        one_result_a_run(ledger)
        folder = next((tmp_path / "studies").iterdir())
        assert measurements(folder) == undisturbed()
        folder.rename(tmp_path / str(study))
        if kills == 20:
            break


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit's debug jobs leave logs open
@pytest.mark.parametrize("cluster", ["debug", pytest.param("local", marks=pytest.mark.slow)])
def test_slurm_jobs_work_on_the_study_and_no_file_holds_the_url(
    url: str, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    finish(ledger)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THALWEG_STORE", "")
    (job,) = submit(ledger.contract.hash, url, 1, 1, {}, cluster=cluster)
    assert job.result() is None
    folder = tmp_path / f"slurm-{ledger.contract.hash}"
    assert not any(b"shared.log" in path.read_bytes() for path in folder.glob("*"))
    assert len(list(folder.glob("*_result.pkl"))) == (cluster == "local")


def test_slurm_is_asked_for_only_where_it_is(command: Command, url: str, ledger: Ledger) -> None:
    line = ["worker", ledger.contract.hash, "--store", url, "--slurm", "2"]
    assert "--slurm-option is 'partition'; it must be KEY=VALUE" in command(*line, "--slurm-option", "partition").stderr
    assert "--slurm is 0" in command(*line[:-1], "0").stderr
    assert "Submit from a machine that has sbatch" in command(*line).stderr
    assert parse_options(["partition=long", "--time=4:00:00"]) == {"partition": "long", "time": "4:00:00"}


def test_the_terms_of_a_study_are_those_it_began_with(url: str, ledger: Ledger) -> None:
    joined = Ledger.create(parse(url), small(), grace_seconds=99)
    assert joined.terms == ledger.terms == Terms(contract=small(), grace_seconds=3)
    text = Path(url.removeprefix("journal:")).read_text()
    assert json.loads(text.splitlines()[0])["study_name"] == f"thalweg-{small().hash}"
