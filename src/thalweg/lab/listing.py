"""What ``thalweg list`` shows."""

from collections.abc import Callable

from thalweg.lab.errors import UserError
from thalweg.lab.show import fixed, interval
from thalweg.lab.space import DEFAULT_OPTIMIZERS, ENTRIES
from thalweg.lab.suites import SUITES
from thalweg.lab.tasks import FROM_FILES, TASKS, load_task

Rows = list[dict[str, str]]


def _optimizers() -> Rows:
    return [
        {
            "name": entry.name,
            "rule": " + ".join(filter(None, (entry.rule, entry.rest))),
            "lr range": interval(entry.space["lr"]),
            "then tunes": ", ".join(list(entry.space)[1:]) or "–",
            "fixed": fixed(entry),
            "default": "yes" if entry.name in DEFAULT_OPTIMIZERS else "with -o",
        }
        for entry in ENTRIES.values()
    ]


def _tasks() -> Rows:
    return [_task(name) for name in TASKS]


def _task(name: str) -> dict[str, str]:
    try:
        task = load_task(name)
    except UserError as error:
        return {"name": name, "what": str(error), "metric": "–", "gradients a run": "–", "files": "not usable"}
    return {
        "name": task.name,
        "what": task.summary,
        "metric": f"{task.metric.name} ({task.metric.unit}), {task.metric.better}",
        "gradients a run": str(task.budget),
        "files": "found" if name in FROM_FILES else "none needed",
    }


def _suites() -> Rows:
    return [
        {
            "name": suite.name,
            "what": suite.summary,
            "ruleset": suite.ruleset,
            "tasks": ", ".join(suite.tasks),
            "optimizers": ", ".join(suite.optimizers),
            "trials": "–" if suite.ruleset == "hands-off" else str(suite.trials),
            "seeds": str(suite.seeds),
        }
        for suite in SUITES.values()
    ]


LISTINGS: dict[str, Callable[[], Rows]] = {"optimizers": _optimizers, "tasks": _tasks, "suites": _suites}
"""What can be listed, and how: one dictionary a row, all with the same keys."""
