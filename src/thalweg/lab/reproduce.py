"""The command line that does a study again."""

import shlex

from thalweg.lab.contract import Contract
from thalweg.lab.suites import SUITES
from thalweg.lab.tasks.files import data_folder, options


def command(contract: Contract, folder: str | None = None) -> str:
    """Return the ``thalweg compare`` line with this contract, its numbers spelled out; in a folder, from this process's
    data folder, if one is given."""
    suite = SUITES.get(contract.suite)
    words = ["thalweg", "compare", *([suite.name] if suite else [task.name for task in contract.tasks])]
    if contract.ruleset != (suite.ruleset if suite else "tuned"):
        words += ["--ruleset", contract.ruleset]
    words += ["-o", ",".join(terms.name for terms in contract.optimizers)]
    words += ["--trials", str(contract.trials)] if contract.trials else []
    words += ["--seeds", str(len(contract.final_seeds))]
    words += options(contract.preset, "DIR" if folder is None else str(data_folder()))
    return shlex.join(words + ([] if folder is None else ["--store", folder]))
