"""What ``thalweg compare`` asks for, checked and turned into a contract."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from thalweg.lab.contract import MOST_TUNING_SEEDS, RULESETS, Contract, Ruleset, draw_up
from thalweg.lab.errors import UserError, check_name, check_range
from thalweg.lab.space import entry
from thalweg.lab.suites import resolve
from thalweg.lab.targets.frozen import with_targets
from thalweg.lab.tasks.files import check_preset


@dataclass(frozen=True)
class Request:
    """The options of ``thalweg compare``; None where the suite decides."""

    names: list[str]
    optimizers: str | None = None
    trials: int | None = None
    seeds: int | None = None
    store: Path | None = None
    ruleset: str | None = None
    preset: str | None = None
    targets: Path | None = None

    def contract(self) -> Contract:
        """Draw up the contract.

        Raises:
            UserError: a name is unknown or given twice, a number is out of range, or an option means nothing hands off.
        """
        ruleset = None if self.ruleset is None else cast(Ruleset, check_name("ruleset", self.ruleset, RULESETS))
        suite = resolve(self.names or ["smoke"], ruleset)
        if suite.ruleset == "hands-off" and self.trials is not None:
            raise UserError(f"--trials is {self.trials}; the hands-off ruleset tunes nothing: leave the option out.")
        trials = check_range("--trials", suite.trials if self.trials is None else self.trials, 1, 4096)
        seeds = check_range("--seeds", suite.seeds if self.seeds is None else self.seeds, 1, MOST_TUNING_SEEDS)
        entries = [entry(name) for name in split(self.optimizers)] if self.optimizers is not None else None
        entered = entries or [entry(name) for name in suite.optimizers]
        size = check_preset(self.preset)
        contract = draw_up(suite.name, list(suite.tasks), entered, trials, seeds, suite.ruleset, size, suite.aside)
        return with_targets(contract, self.targets)

    def folder(self, contract: Contract) -> Path:
        """Return the study's folder: the one asked for, or one named after the contract's hash."""
        return self.store or study_folder(contract)


def study_folder(contract: Contract) -> Path:
    """Return the folder of a study that was given none: named after the contract's hash."""
    return Path("studies") / f"{contract.suite}-{contract.hash[:8]}"


def split(names: str) -> list[str]:
    """Return the names of ``--optimizers``.

    Raises:
        UserError: one is empty, or given twice.
    """
    split = [name.strip() for name in names.split(",")]
    if "" in split:
        raise UserError(f"--optimizers {names!r} has an empty name; write names separated by commas: adamw,nesterov.")
    twice = [name for number, name in enumerate(split) if name in split[:number]]
    if twice:
        raise UserError(f"--optimizers {names!r} gives {twice[0]!r} twice.")
    return split
