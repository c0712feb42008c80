"""Where the runs of a study come from and where their results go."""

from collections import deque
from typing import Protocol

from thalweg.lab.contract import Contract
from thalweg.lab.records import Result, RunConfig
from thalweg.lab.store import RunFolder, Store
from thalweg.lab.study import ready, ready_after


class Plan:
    """What a study has left: the runs that can start and have not ended, kept as runs end."""

    def __init__(self, contract: Contract, results: dict[str, Result]):
        self.contract, self.results = contract, results
        self.left = {config.path: config for config in ready(contract, results)}

    def end(self, path: str, result: Result) -> list[RunConfig]:
        """Note the result of a run that was left, and return the runs that can start now and could not before."""
        config = self.left.pop(path)
        self.results[path] = result
        new = [after for after in ready_after(self.contract, config, self.results) if after.path not in self.left]
        self.left |= {after.path: after for after in new}
        return new


class Board(Protocol):
    """Where runs come from, and where their results go."""

    plan: Plan

    def take(self) -> RunConfig | None:
        """Return a run that is this process's to do; None if there is none now."""
        ...

    def folder(self, config: RunConfig) -> RunFolder:
        """Return where a run that was taken is to write."""
        ...

    def end(self, config: RunConfig, result: Result) -> None:
        """Note the result of a run that was taken."""
        ...

    def news(self) -> list[tuple[RunConfig, Result]]:
        """Return the runs that ended since the last call, whoever did them."""
        ...

    def patience(self) -> float | None:
        """Seconds to wait before looking again at what others do; None if there are no others."""
        ...


class LocalBoard:
    """The runs of a study folder, which has one runner."""

    def __init__(self, store: Store):
        self.store = store
        self.plan = Plan(store.contract, store.finished())
        self.waiting = deque(self.plan.left.values())
        self.ended: list[tuple[RunConfig, Result]] = []

    def take(self) -> RunConfig | None:
        """Return the next run; None if all that can start have."""
        return self.waiting.popleft() if self.waiting else None

    def folder(self, config: RunConfig) -> RunFolder:
        """Return the run's folder in the study."""
        return self.store.run(config)

    def end(self, config: RunConfig, result: Result) -> None:
        """Note a result, which is on disk already."""
        self.waiting.extend(self.plan.end(config.path, result))
        self.ended.append((config, result))

    def news(self) -> list[tuple[RunConfig, Result]]:
        """Return the runs that ended since the last call."""
        news, self.ended = self.ended, []
        return news

    def patience(self) -> None:
        """Nobody else works on a study folder."""
