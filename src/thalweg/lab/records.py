"""What is written about a run: its configuration before it starts, one line a curve point, its result at the end."""

from fractions import Fraction
from typing import Literal

from pydantic import Field

from thalweg.lab.space import Frozen, Schedule, Steering, Value
from thalweg.lab.tasks.files import Preset

Phase = Literal["tuning", "final", "sweep", "sharpness", "timing"]
"""What a run is for; the last two are measured beside the others and ranked by nothing."""
State = Literal["ok", "diverged", "crashed", "timeout", "out of memory"]


class RunConfig(Frozen):
    """All a worker needs to know to do one run."""

    study: str
    """Hash of the contract."""
    task: str
    preset: Preset | None = None
    optimizer: str
    rule: str
    rest: str | None = None
    steering: Steering | None = None
    phase: Phase
    trial: int
    """Number of the point tried; in a sweep, of the multiple."""
    seed: int
    point: dict[str, float]
    """What was searched."""
    keywords: dict[str, Value]
    """What the optimizer's constructor gets, the point included."""
    schedule: Schedule
    budget: int
    counted: Literal["gradient-equivalents", "steps"] = "gradient-equivalents"
    """What the budget is of."""
    evaluations: int
    diverged_above: float
    timeout_seconds: float

    def used(self, steps: int, charged: Fraction | float) -> Fraction | float:
        """What counts of the work done."""
        return steps if self.counted == "steps" else charged

    @property
    def path(self) -> str:
        """The run's folder inside the study's ``runs``; unique in a study."""
        return f"{self.task}/{self.optimizer}/{self.phase}-trial{self.trial:03d}-seed{self.seed}"


class CurvePoint(Frozen):
    """One line of metrics.jsonl. A number that is not finite is stored as null."""

    step: int
    charged: int | float
    """Gradient-equivalents used so far."""
    seconds: float
    """CPU seconds of training so far, evaluation excluded."""
    lr: float
    """Of the last step, of the first parameter group: what a controller made of it, if there is one."""
    train_loss: float | None
    """Mean minibatch loss since the point before; null at step 0."""
    validation_loss: float | None
    validation: float | None
    """The task's metric."""
    sharpness: float | None = None
    """λ1 of the Hessian on the task's probe batch, as the rule sees it; measured in sharpness runs alone."""
    threshold: float | None = None
    """The sharpness up to which the rule is stable at this learning rate; null where it is not known."""


class Result(Frozen):
    """How a run ended. A run without this file has not happened."""

    state: State
    value: float | None = None
    """Metric on the validation split at the end; null unless the state is ok."""
    loss: float | None = None
    """Validation loss at the end; null unless the state is ok."""
    test: float | None = None
    """Metric on the test split, read once, after final runs only."""
    also: dict[str, float | None] = Field(default_factory=dict[str, float | None])
    """The task's other metrics on the validation split at the end."""
    highest: float | None = None
    """Highest training loss of a step; null if none was made or the loss was not finite."""
    untrained: float | None = None
    """Metric on the validation split before the first step."""
    steps: int = 0
    charged: int | float = 0
    seconds: float = 0.0
    milliseconds: float | None = None
    """Wall time of a training step, gradient included, the median; of timing runs, which have the machine to themselves."""
    state_bytes_per_parameter: float | None = None
    message: str = ""
    """Why the run did not end well; the traceback when it crashed."""

    @property
    def ok(self) -> bool:
        """Whether the run kept its whole budget and ended better than it began."""
        return self.state == "ok"
