"""The references, one a line."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """What a reference gave here.

    Attributes:
        value: what is compared.
        low, high: its spread, as the reference's own group says what that is.
        trace: columns of equal length, the run behind it: what the pictures of the documentation show.
    """

    value: float
    low: float
    high: float
    trace: dict[str, list[float]]


@dataclass(frozen=True)
class Reference:
    """A number known from elsewhere, and how to get it again.

    Attributes:
        name: what stands in the table; unique.
        value: the reference's.
        tolerance: how far ours may lie from it.
        measure: ``module:function`` in this folder, called with the setting, that returns a `Measurement`.
        setting: keywords of the function.
    """

    name: str
    value: float
    tolerance: float
    measure: str
    setting: dict[str, Any]


@dataclass(frozen=True)
class Group:
    """References of one kind.

    Attributes:
        what: what is measured, in a sentence.
        source: where the references come from.
        references: its lines.
    """

    what: str
    source: str
    references: tuple[Reference, ...]


def edge(name: str, value: float, optimizer: str, steps: int, activation: str = "Tanh", **options: Any) -> Reference:
    """A line of the group "stability"."""
    setting = dict(optimizer=optimizer, steps=steps, activation=activation, options=options)
    return Reference(name, value, 0.03, "stability:ratio", setting)


ADAM: dict[str, Any] = dict(betas=(0.9, 0.99), eps=1e-7)

# The references were measured by code that shares none with this package.  Gradient descent runs their 3000 steps; for the
# others 2000 reach the plateau: all cross the threshold by step 550, and 1000 more move no ratio by .01.
STABILITY = Group(
    what="sharpness ÷ stability threshold, median of the run's second half [10 %, 90 %]",
    source="full-batch training at the edge of stability: arXiv 2103.00065 (gradient descent, momentum), 2207.14484 (Adam,"
    " RMSprop)",
    references=(
        edge("gradient descent, η .1, tanh", 1.003, "sgd", 3000, lr=0.1),
        edge("gradient descent, η .2, tanh", 1.013, "sgd", 3000, lr=0.2),
        edge("gradient descent, η .2, ReLU", 0.972, "sgd", 3000, "ReLU", lr=0.2),
        edge("gradient descent, η .2, GELU", 1.000, "sgd", 3000, "GELU", lr=0.2),
        edge("Nesterov .9, η .05", 0.996, "sgd", 2000, lr=0.05, momentum=0.9, nesterov=True),
        edge("Adam (.9, .99), η 3e-4", 0.973, "adam", 2000, lr=3e-4, **ADAM),
        edge("Adam (.9, .99), η 1e-3", 0.989, "adam", 2000, lr=1e-3, **ADAM),
        edge("Adam (.9, .99), η 3e-3", 0.994, "adam", 2000, lr=3e-3, **ADAM),
        edge("RMSprop .99, η 1e-4", 1.056, "rmsprop", 2000, lr=1e-4, alpha=0.99, eps=1e-7),
    ),
)

GROUPS: dict[str, Group] = {"stability": STABILITY}
"""What ``thalweg verify --only`` takes."""
