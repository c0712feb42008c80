"""Named comparisons: tasks, optimizers, trials and seeds that fit a span of time."""

from thalweg.lab.errors import UserError, check_name
from thalweg.lab.space import DEFAULT_OPTIMIZERS, Frozen
from thalweg.lab.tasks import TASKS


class Suite(Frozen):
    """A named comparison."""

    name: str
    summary: str
    tasks: tuple[str, ...]
    optimizers: tuple[str, ...] = DEFAULT_OPTIMIZERS
    trials: int
    seeds: int


SUITES = {
    suite.name: suite
    for suite in [
        Suite(
            name="smoke",
            summary="the embedded digits and text tasks, under 4 minutes on 2 cores",
            tasks=("digits-mlp", "digits-cnn", "digits-autoencoder", "docs-gpt"),
            trials=8,
            seeds=10,
        ),
    ]
}

CUSTOM_TRIALS, CUSTOM_SEEDS = 8, 10
"""Trials and seeds when tasks are named one by one."""


def resolve(names: list[str]) -> Suite:
    """Return the suite that a command's arguments mean: a suite, or tasks by name.

    Raises:
        UserError: a name is neither, is given twice, or a suite is mixed with anything else.
    """
    for name in names:
        check_name("task or suite", name, [*SUITES, *TASKS])
    if len(names) == 1 and names[0] in SUITES:
        return SUITES[names[0]]
    mixed = [name for name in names if name in SUITES]
    if mixed:
        raise UserError(f"suite {mixed[0]!r} cannot be combined with other names; give one suite, or tasks.")
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise UserError(f"task {twice[0]!r} is given twice.")
    return Suite(name="tasks", summary="", tasks=tuple(names), trials=CUSTOM_TRIALS, seeds=CUSTOM_SEEDS)
