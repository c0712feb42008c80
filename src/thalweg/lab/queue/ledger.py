"""The trials of one shared study: a few operations, each atomic, and what their errors mean.

A trial is one *attempt* at a run. Optuna's storages promise what claims are built on: trials of a study are numbered in the
order in which they become visible to others, an attribute is written whole or not at all, and a trial that has ended never
changes again.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import uuid4

from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from pydantic import ValidationError

from thalweg.lab.contract import Contract
from thalweg.lab.errors import UserError
from thalweg.lab.queue.address import Address
from thalweg.lab.queue.storage import Storage
from thalweg.lab.space import Frozen

PREFIX = "thalweg-"
GRACE_SECONDS = 60.0
"""A worker that has given no sign of life for so long is taken for dead, and its runs are done again."""


class Terms(Frozen):
    """What a storage holds about a study, written when it begins."""

    contract: Contract
    grace_seconds: float


class Attempt(NamedTuple):
    """A trial."""

    id: int
    number: int
    """Place in the order of the study's attempts."""
    run: str
    """Path of the run."""
    ours: bool
    """Whether this ledger began it."""
    state: TrialState
    beat: int | None
    """Last sign of life; None if its worker never gave one, for then it never began the run."""
    released: bool
    """Whether its worker gave it up: stopped, and not dead."""
    record: str | None
    """Everything about the finished run."""

    @property
    def live(self) -> bool:
        """Whether it is in progress or has a result."""
        return self.state in (TrialState.RUNNING, TrialState.COMPLETE)


class Ledger:
    """One shared study."""

    def __init__(self, storage: Storage, study: int, terms: Terms):
        self._storage, self._study = storage, study
        self._process = uuid4().hex
        self.address, self.terms = storage.address, terms

    @property
    def contract(self) -> Contract:
        """The study's contract."""
        return self.terms.contract

    @classmethod
    def create(cls, address: Address, contract: Contract, grace_seconds: float = GRACE_SECONDS) -> "Ledger":
        """Join the study of a contract, or begin it; several processes may at once.

        Raises:
            UserError: the storage cannot be reached.
        """
        storage = Storage(address, create=True)
        name = PREFIX + contract.hash
        try:
            study = storage(lambda store: store.create_new_study([StudyDirection.MINIMIZE], name))
        except DuplicatedStudyError:
            study = storage(lambda store: store.get_study_id_from_name(name))
        attributes = storage(lambda store: store.get_study_user_attrs(study))
        if "terms" not in attributes:
            terms = Terms(contract=contract, grace_seconds=grace_seconds).model_dump_json()
            storage(lambda store: store.set_study_user_attr(study, "terms", terms))
            attributes = {"terms": terms}
        return cls(storage, study, _terms(address, name, attributes))

    @classmethod
    def find(cls, address: Address, prefix: str) -> "Ledger":
        """Join a study that others have begun, by the beginning of its contract's hash.

        Raises:
            UserError: the storage cannot be reached, or holds no such study or several; the message lists what it holds.
        """
        storage = Storage(address, create=False)
        studies = storage(lambda store: store.get_all_studies())
        known = {
            study.study_name.removeprefix(PREFIX): study for study in studies if study.study_name.startswith(PREFIX)
        }
        found = [name for name in known if prefix and name.startswith(prefix.removeprefix(PREFIX))]
        if len(found) != 1:
            held = f"it holds {', '.join(sorted(known))}" if known else "it holds none: begin one with thalweg compare"
            raise UserError(f"STUDY {prefix!r} is {'several studies' if found else 'no study'} of {address}; {held}.")
        study: Any = known[found[0]]
        return cls(storage, study._study_id, _terms(address, study.study_name, study.user_attrs))

    def others(self) -> Iterator["Ledger"]:
        """Yield the other studies of the storage, but for those that this version cannot read."""
        studies: list[Any] = self._storage(lambda store: store.get_all_studies())
        for study in studies:
            if study.study_name.startswith(PREFIX) and study._study_id != self._study:
                with suppress(UserError):
                    terms = _terms(self.address, study.study_name, study.user_attrs)
                    yield Ledger(self._storage, study._study_id, terms)

    def attempts(self) -> list[Attempt]:
        """Return all attempts in the order of their numbers. What has ended is read once and remembered."""
        trials: list[Any] = self._storage(lambda store: store.get_all_trials(self._study, deepcopy=False))
        return [
            Attempt(
                trial._trial_id,
                trial.number,
                trial.user_attrs.get("run", ""),
                trial.user_attrs.get("process") == self._process,
                trial.state,
                trial.user_attrs.get("beat"),
                "released" in trial.user_attrs,
                trial.user_attrs.get("record"),
            )
            for trial in trials
        ]

    def begin(self, run: str) -> int:
        """Add an attempt at a run, in progress, and return its id."""
        trial = create_trial(state=TrialState.RUNNING, user_attrs={"run": run, "process": self._process})
        return self._storage(lambda store: store.create_new_trial(self._study, trial))

    def note(self, attempt: int, key: str, value: object) -> bool:
        """Note something about an attempt; False if it has ended, and nothing was noted."""
        return self._unless_ended(lambda store: store.set_trial_user_attr(attempt, key, value))

    def end(self, attempt: int, state: TrialState) -> bool:
        """End an attempt; False if it had ended, and stays as it was."""
        return self._unless_ended(lambda store: store.set_trial_state_values(attempt, state))

    def _unless_ended(self, operation: Callable[[BaseStorage], object]) -> bool:
        try:
            self._storage(operation)
        except UpdateFinishedTrialError:
            return False
        return True


def _terms(address: Address, name: str, attributes: dict[str, Any]) -> Terms:
    """Read the terms of a study. What others have stored is not trusted: names in it become folders.

    Raises:
        UserError: they are missing, damaged, or of another version.
    """
    try:
        terms = Terms.model_validate_json(attributes["terms"])
    except (KeyError, ValidationError):
        raise UserError(f"STUDY {name} of {address} has no contract that this version of thalweg can read.") from None
    contract = terms.contract
    names = [contract.suite, *(task.name for task in contract.tasks), *(entry.name for entry in contract.optimizers)]
    if PREFIX + contract.hash != name or any(set(word) & set("/\\\0") or word.strip(".") == "" for word in names):
        raise UserError(f"STUDY {name} of {address} is damaged: its contract is not the one it is named after.")
    return terms
