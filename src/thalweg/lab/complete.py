"""What a shell completes: names such as those of suites, tasks and optimizers. Each is asked with what is typed so far."""

from collections.abc import Callable, Iterable

import typer

from thalweg.lab.space import ENTRIES
from thalweg.lab.suites import SUITES
from thalweg.lab.tasks import TASKS


def one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what completes one of some names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def suites_and_tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Suites and tasks; after a name tasks alone, without those that stand there, as suites are not combined."""
    given: list[str] = ctx.params.get("names") or []
    offered = (*TASKS, *(() if given else SUITES))
    return one_of(name for name in offered if name not in given)(incomplete)


def optimizers(incomplete: str) -> list[str]:
    """Optimizers of a list separated by commas: the last one is completed, those before it are not offered again."""
    *given, last = incomplete.split(",")
    return [",".join([*given, name]) for name in one_of(ENTRIES)(last) if name not in given]
