"""The runs of a shared study: claims the next, hands results in, sees what others do."""

import random
import shutil
import tempfile
from pathlib import Path

from optuna.trial import TrialState
from pydantic import ValidationError

from thalweg.lab.environment import Environment
from thalweg.lab.errors import UserError
from thalweg.lab.execution.board import Plan
from thalweg.lab.execution.workers import MOST_DEATHS, died
from thalweg.lab.queue.beats import Beats, Silence
from thalweg.lab.queue.claims import claim, complete, deaths, release_all
from thalweg.lab.queue.ledger import Attempt, Ledger
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.space import Frozen
from thalweg.lab.store import RunFolder

SHORTEST_WAIT, LONGEST_WAIT = 0.2, 5.0
"""Seconds between two looks at what others do: twice as long after each that found nothing."""
LOOKS_A_GRACE = 12
"""At least: what nobody sees, nobody counts as silence."""


class Record(Frozen):
    """A finished run, as a storage holds it: what its folder holds, but for the configuration, which the contract gives."""

    environment: Environment
    curve: list[CurvePoint]
    result: Result


class View:
    """What a process knows of a shared study. Only runs that the contract asks for are seen."""

    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self.plan = Plan(ledger.contract, {})
        self.attempts: list[Attempt] = []

    def update(self, attempts: list[Attempt]) -> list[tuple[RunConfig, Record]]:
        """Take note of the attempts as just read; return the runs that have ended since."""
        self.attempts = attempts
        complete = {attempt.run: attempt for attempt in reversed(attempts) if attempt.state == TrialState.COMPLETE}
        ended: list[tuple[RunConfig, Record]] = []
        # One may wait for another that comes after it: inherited attempts have the order of a smaller study.
        while known := complete.keys() & self.plan.left.keys():
            for run in sorted(known):
                record = self._read(complete[run])
                ended.append((self.plan.left[run], record))
                self.plan.end(run, record.result)
        return ended

    def free(self) -> list[RunConfig]:
        """Return the runs that can start, and that nobody has."""
        live = {attempt.run for attempt in self.attempts if attempt.live}
        return [config for path, config in self.plan.left.items() if path not in live]

    def _read(self, attempt: Attempt) -> Record:
        try:
            return Record.model_validate_json(attempt.record or "")
        except ValidationError as error:
            raise UserError(
                f"--store {self.ledger.address}: the record of {attempt.run} (trial {attempt.number}) cannot be understood:"
                f" {error.errors()[0]['msg']}."
            ) from None


class SharedBoard:
    """The runs of a shared study, for this process's workers."""

    def __init__(self, ledger: Ledger):
        self.ledger, self.view = ledger, View(ledger)
        self.plan = self.view.plan
        self.done = 0
        """Runs that this process has handed in."""
        self._mine: dict[str, int] = {}
        self._news: list[tuple[RunConfig, Result]] = []
        self._silence = Silence(ledger.terms.grace_seconds)
        self._wait = SHORTEST_WAIT
        self.view.update(ledger.attempts())

    def __enter__(self) -> "SharedBoard":
        self._scratch = tempfile.TemporaryDirectory(prefix="thalweg-", ignore_cleanup_errors=True)
        self._beats = Beats(self.ledger)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._beats.close()
        try:
            release_all(self.ledger)
        except UserError:
            if kind is None:
                raise
        finally:
            self._scratch.cleanup()

    def take(self) -> RunConfig | None:
        """Claim a run. Any will do, for results depend on no order; workers that choose at random seldom meet."""
        while free := self.view.free():
            config = random.choice(free)
            attempt, attempts = claim(self.ledger, config.path)
            self._update(attempts)
            if attempt is None:
                continue
            self._mine[config.path] = attempt
            self._wait = SHORTEST_WAIT
            if deaths(attempts)[config.path] < MOST_DEATHS:
                self._beats.add(attempt)
                return config
            self.end(config, died(self.folder(config), config))
            self._update(self.ledger.attempts())
        return None

    def folder(self, config: RunConfig) -> RunFolder:
        """Return a folder for the run to write in until it is handed in."""
        return RunFolder(Path(self._scratch.name) / config.path)

    def end(self, config: RunConfig, result: Result) -> None:
        """Hand a result in."""
        run, attempt = self.folder(config), self._mine[config.path]
        environment = Environment.model_validate_json((run.folder / "env.json").read_bytes())
        record = Record(environment=environment, curve=run.curve(), result=result)
        self.done += complete(self.ledger, attempt, record.model_dump_json())
        self._beats.remove(attempt)
        del self._mine[config.path]
        shutil.rmtree(run.folder)

    def news(self) -> list[tuple[RunConfig, Result]]:
        """Return the runs that ended since the last call, whoever did them."""
        attempts = self.ledger.attempts()
        self._update(attempts)
        others = [a for a in attempts if a.state == TrialState.RUNNING and a.id not in self._mine.values()]
        for attempt in self._silence.too_long(others):
            self.ledger.end(attempt.id, TrialState.FAIL)
        news, self._news = self._news, []
        longest = min(LONGEST_WAIT, self.ledger.terms.grace_seconds / LOOKS_A_GRACE)
        self._wait = SHORTEST_WAIT if news else min(2 * self._wait, longest)
        return news

    def patience(self) -> float:
        """Seconds to wait before looking again."""
        return self._wait

    def _update(self, attempts: list[Attempt]) -> None:
        self._news += [(config, record.result) for config, record in self.view.update(attempts)]
