"""The command line that does a study again."""

import shlex

from thalweg.lab import own
from thalweg.lab.contract import Contract
from thalweg.lab.space import ENTRIES
from thalweg.lab.suites import SUITES
from thalweg.lab.tasks import TASKS
from thalweg.lab.tasks.files import data_folder, options


def command(contract: Contract, folder: str | None = None) -> str:
    """Return the ``thalweg compare`` line with this contract, its numbers spelled out; in a folder, from this process's
    data folder, if one is given."""
    suite = SUITES.get(contract.suite)
    here = folder is not None
    tasks = [own.word(own.TASKS, task.name, TASKS, here) for task in contract.tasks]
    optimizers = [own.word(own.OPTIMIZERS, terms.name, ENTRIES, here) for terms in contract.optimizers]
    words = ["thalweg", "compare", *([suite.name] if suite else tasks)]
    if contract.ruleset != (suite.ruleset if suite else "tuned"):
        words += ["--ruleset", contract.ruleset]
    words += ["-o", ",".join(optimizers)]
    words += ["--trials", str(contract.trials)] if contract.trials else []
    words += ["--seeds", str(len(contract.final_seeds))]
    words += options(contract.preset, "DIR" if folder is None else str(data_folder()))
    return shlex.join(words + ([] if folder is None else ["--store", folder]))
