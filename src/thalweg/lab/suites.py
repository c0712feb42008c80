"""Named comparisons: tasks, trials and seeds that fit a span of time, and who takes part."""

from thalweg.lab.contract import Aside, Ruleset
from thalweg.lab.errors import UserError
from thalweg.lab.space import DEFAULT_OPTIMIZERS, ENTRIES, Frozen
from thalweg.lab.tasks import EMBEDDED, task_name

OPTIMIZERS: dict[Ruleset, tuple[str, ...]] = {
    "tuned": DEFAULT_OPTIMIZERS,
    "hands-off": ("sgd", "momentum", "adamw", "adamw_schedule_free", "dcao", "dcao_adamw"),
    "robustness": ("momentum", "dcao", "adamw", "dcao_adamw"),
}
"""Who takes part under a ruleset when nobody is named."""

SMALL_TASKS = ("digits-mlp", "digits-mlp-mse", "digits-cnn", "digits-autoencoder", "mnist1d-cnn", "docs-gpt")

OTHER_BATCH_SIZES = ("digits-mlp@128", "digits-cnn@8", "mnist1d-cnn@200", "docs-gpt@64")
QUICK_TASKS = tuple(name for name in EMBEDDED if name not in ("noisy-quadratic", "deep-linear"))
QUICK = ("sgd", "momentum", "nesterov", "rmsprop", "adamw", "adamw_schedule_free", "muon", "saveus", "dope", "dcao")


class Suite(Frozen):
    """A named comparison."""

    name: str
    summary: str
    ruleset: Ruleset = "tuned"
    tasks: tuple[str, ...]
    entered: tuple[str, ...] = ()
    """Who takes part when nobody is named; those of the ruleset if this is empty."""
    trials: int = 8
    """Of no use hands off."""
    seeds: int = 10
    aside: tuple[Aside, ...] = ("sharpness", "timing")
    """What else is measured, in runs of its own; a sweep measures itself."""

    @property
    def optimizers(self) -> tuple[str, ...]:
        """Who takes part when nobody is named."""
        return self.entered or OPTIMIZERS[self.ruleset]


SUITES = {
    suite.name: suite
    for suite in [
        Suite(
            name="smoke",
            summary="the embedded digits and text tasks, under 4 minutes on 2 cores",
            tasks=("digits-mlp", "digits-cnn", "digits-autoencoder", "docs-gpt"),
        ),
        Suite(
            name="quick",
            summary="networks on digits, MNIST-1D and text, momentum factors tuned too, under 20 minutes on 2 cores",
            tasks=QUICK_TASKS,
            entered=QUICK,
            trials=12,
        ),
        Suite(
            name="standard",
            summary="every task that needs no files, other batch sizes, every optimizer, ε tuned too, under 4 hours on 2 cores",
            tasks=(*EMBEDDED, *OTHER_BATCH_SIZES),
            entered=tuple(ENTRIES),
            trials=26,
        ),
        Suite(
            name="hands-off",
            summary="one default point for all tasks, nothing tuned",
            ruleset="hands-off",
            tasks=SMALL_TASKS,
        ),
        Suite(
            name="robustness",
            summary="plain and steered by curvature over four decades of learning rate",
            ruleset="robustness",
            tasks=SMALL_TASKS,
            seeds=5,
            aside=(),
        ),
    ]
}


def resolve(names: list[str], ruleset: Ruleset | None = None) -> Suite:
    """Return the suite that a command's arguments mean: a suite, or tasks by name; under its own ruleset if none is given.

    Raises:
        UserError: a name is neither, is given twice, or a suite is mixed with anything else.
    """
    suite = _named(names)
    if ruleset is None:
        return suite
    return suite.model_copy(update={"ruleset": ruleset, "aside": () if ruleset == "robustness" else suite.aside})


def _named(names: list[str]) -> Suite:
    names = [task_name(name, *SUITES) for name in names]
    if len(names) == 1 and names[0] in SUITES:
        return SUITES[names[0]]
    mixed = [name for name in names if name in SUITES]
    if mixed:
        raise UserError(f"suite {mixed[0]!r} cannot be combined with other names; give one suite, or tasks.")
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise UserError(f"task {twice[0]!r} is given twice.")
    return Suite(name="tasks", summary="", tasks=tuple(names))
