"""The command line that does a study again."""

import shlex

from thalweg.lab.contract import Contract
from thalweg.lab.suites import SUITES


def command(contract: Contract, folder: str | None = None) -> str:
    """Return the ``thalweg compare`` line with this contract, its numbers spelled out; in a folder if one is given."""
    names = [contract.suite] if contract.suite in SUITES else [task.name for task in contract.tasks]
    words = ["thalweg", "compare", *names]
    words += ["-o", ",".join(terms.name for terms in contract.optimizers)]
    words += ["--trials", str(contract.trials), "--seeds", str(len(contract.final_seeds))]
    return shlex.join(words + ([] if folder is None else ["--store", folder]))
