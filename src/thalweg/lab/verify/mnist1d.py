"""MNIST-1D by the recipe of its authors: three networks, Adam, batches in the order of the data.  arXiv:2011.14439"""

from collections.abc import Callable
from statistics import median
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import thalweg
from thalweg.lab.models import signal_cnn
from thalweg.lab.tasks.mnist1d import CLASSES, LENGTH, signals
from thalweg.lab.verify.references import Measurement

SEEDS, STEPS, BATCH, LR, HIDDEN = 5, 6000, 100, 1e-2, 100


class ResidualMLP(nn.Module):
    """h = relu(W₁x), h ← h + relu(W₂h), W₃h; biases everywhere."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(LENGTH, HIDDEN)
        self.second = nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 40) to logits (B, 10)."""
        hidden = F.relu(self.first(x))
        return self.last(hidden + F.relu(self.second(hidden)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "CNN": lambda: signal_cnn(LENGTH, CLASSES),
    "MLP": ResidualMLP,
    "linear": lambda: nn.Linear(LENGTH, CLASSES),
}


def accuracy(network: str, seeds: int = SEEDS, steps: int = STEPS) -> Measurement:
    """Test accuracy in % at the end, the median over seeds, the lowest and the highest."""
    found = [trained(network, seed, steps) for seed in range(seeds)]
    return Measurement(
        median(found), min(found), max(found), {"seed": list(map(float, range(seeds))), "accuracy": found}
    )


def trained(network: str, seed: int, steps: int) -> float:
    """Train on all 4,000 signals, in their order, and return the test accuracy in %."""
    data = signals()
    x, y = (torch.cat(parts) for parts in zip(data.train, data.validation, strict=True))
    torch.manual_seed(seed)
    model = NETWORKS[network]()
    rule = thalweg.create("adam", model.parameters(), lr=LR)
    for step in range(steps):
        start = step * BATCH % len(x)
        rule.zero_grad()
        cast(Any, F.cross_entropy(model(x[start : start + BATCH]), y[start : start + BATCH])).backward()
        rule.step()
    inputs, labels = data.test
    with torch.no_grad():
        return 100 * (model(inputs).argmax(1) == labels).double().mean().item()
