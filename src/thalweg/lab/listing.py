"""What ``thalweg list`` shows."""

from collections.abc import Callable

from thalweg.lab.errors import UserError
from thalweg.lab.show import fixed, interval
from thalweg.lab.space import DEFAULT_OPTIMIZERS, ENTRIES
from thalweg.lab.suites import SUITES
from thalweg.lab.tasks import FROM_FILES, TASKS, from_files, load_task
from thalweg.lab.tasks.files import data_folder
from thalweg.lab.tasks.task import FromFiles

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
    if name in FROM_FILES:
        return _on_files(name, from_files(name))
    try:
        task = load_task(name)
    except UserError as error:
        return {"name": name, "what": str(error), "judged by": "–", "files": "not usable"}
    return {"name": name, "what": task.summary, "judged by": task.metric.said, "files": "none needed"}


def _on_files(name: str, made: FromFiles) -> dict[str, str]:
    """Look for a task's files without reading them: all data sets together take a minute."""
    row = {"name": name, "what": made.what, "judged by": made.judged, "files": "found"}
    try:
        for layout in made.layouts:
            layout.find(data_folder())
    except UserError as error:
        return {**row, "what": str(error), "files": "not usable"}
    return row


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
