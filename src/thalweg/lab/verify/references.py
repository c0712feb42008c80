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
        seconds: about how long it takes on one core of a laptop.
        places: digits shown after the point.
    """

    name: str
    value: float
    tolerance: float
    measure: str
    setting: dict[str, Any]
    seconds: float = 0.0
    places: int = 3


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

    def seconds(self, jobs: int) -> float:
        """About how long it takes on so many cores."""
        each = [reference.seconds for reference in self.references]
        return max(sum(each) / jobs, *each)


def edge(name: str, value: float, optimizer: str, steps: int, activation: str = "Tanh", **options: Any) -> Reference:
    """A line of the group "stability"."""
    setting = dict(optimizer=optimizer, steps=steps, activation=activation, options=options)
    return Reference(name, value, 0.03, "stability:ratio", setting, seconds=0.012 * steps)


def strategy(name: str, score: float, loss: float, optimizer: str, **options: Any) -> tuple[Reference, Reference]:
    """Two lines of the group "strategies": a strategy's score and loss."""
    setting = dict(optimizer=optimizer, options=options)

    def line(measure: str, value: float) -> Reference:
        what = f"strategies:{measure}"
        return Reference(f"{name}: {measure}", value, 1e-3, what, setting, seconds=1, places=6)

    return line("score", score), line("loss", loss)


def signals(network: str, accuracy: float, tolerance: float, seconds: float) -> Reference:
    """A line of the group "mnist1d"."""
    setting = dict(network=network)
    return Reference(network, accuracy, tolerance, "mnist1d:accuracy", setting, seconds, places=1)


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

EDGE = Group(
    what="sharpness of gradient descent, η .2, where 2/η is 10: median of the run's second half [lowest, highest]",
    source="1,000 digits, tanh 64-200-200-10, squared error: rises to 10 and stays within 10.1 and 10.6",
    references=(Reference("sharpness", 10.35, 0.25, "stability:sharpness", dict(lr=0.2, steps=3000), 60, places=2),),
)

# Weights, batches and arithmetic are those of the source to the last bits of float64, so the tolerance is what a rounded
# number and two rows of 1,797 leave open.
STRATEGIES = Group(
    what="training score and loss after 15 epochs",
    source='scikit-learn, "Compare Stochastic learning strategies for MLPClassifier", digits; the same from 0.18 to 1.9',
    references=(
        *strategy("gradient descent", 0.956038, 0.243802, "sgd", lr=0.2),
        *strategy("momentum", 0.992766, 0.041297, "sgd", lr=0.2, momentum=0.9),
        *strategy("Nesterov", 0.993879, 0.042898, "sgd", lr=0.2, momentum=0.9, nesterov=True),
        *strategy("Adam", 0.991653, 0.045934, "adam", lr=0.01),
    ),
)

# The authors have published two runs of one recipe: 94, 68, 32 % in the README, and 92.3, 65.1, 31.5 % in the notebook
# mnist1d-classification.  The tolerance is how far these lie apart, rounded up.
MNIST1D = Group(
    what="test accuracy in % after 6,000 steps of Adam, median of 5 seeds [lowest, highest]",
    source="MNIST-1D, its README and its notebooks (train.py, models.py); arXiv 2011.14439",
    references=(
        signals("CNN", 94, 2, seconds=120),
        signals("MLP", 68, 3, seconds=60),
        signals("linear", 32, 1, seconds=15),
    ),
)

# The published number has two decimals and is an estimate from 240 windows of 64 characters, whose losses lie about .25
# apart: ± .005, and twice .25/√240, and as much as .01 for the seed.
LANGUAGE = Group(
    what="validation loss in nats a character after 2,000 steps [lowest, highest probe of the last quarter]",
    source="nanoGPT's README, the configuration for a CPU, on tiny Shakespeare",
    references=(Reference("nanoGPT, 4 × 128", 1.88, 0.05, "language:validation_loss", dict(steps=2000), 400),),
)

GROUPS: dict[str, Group] = {
    "strategies": STRATEGIES,
    "mnist1d": MNIST1D,
    "edge": EDGE,
    "stability": STABILITY,
    "language": LANGUAGE,
}
"""What ``thalweg verify --only`` takes."""
