"""scikit-learn's comparison of stochastic learning strategies, trained anew by our rules in torch.

The network, its first weights and the order of its batches are those of `sklearn.neural_network.MLPClassifier` with
``random_state=0``; gradients are torch's, and steps are ours.
"""

from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import thalweg
from thalweg.lab.models import mlp
from thalweg.lab.untyped import untyped
from thalweg.lab.verify.references import Measurement

WIDTHS = [64, 100, 10]
EPOCHS, BATCH, ALPHA = 15, 200, 1e-4
"""Of the example, and the defaults of its class."""


def score(optimizer: str, options: dict[str, Any]) -> Measurement:
    """Part of the training rows that the trained network gets right."""
    return _once(*trained(optimizer, options))


def loss(optimizer: str, options: dict[str, Any]) -> Measurement:
    """Mean loss over the batches of the last epoch, each before its step."""
    _, losses = trained(optimizer, options)
    return _once(losses[-1], losses)


def _once(value: float, losses: list[float]) -> Measurement:
    """One run has no spread."""
    epochs = [float(epoch) for epoch in range(1, len(losses) + 1)]
    return Measurement(value, value, value, {"epoch": epochs, "loss": losses})


def trained(optimizer: str, options: dict[str, Any], epochs: int = EPOCHS) -> tuple[float, list[float]]:
    """Train and return the score on the training rows, and the mean loss of each epoch.

    ``L = mean CE(softmax f(x), y) + ½ α ‖W‖² / B``: the decay of a batch of B rows is divided by B, biases have none.
    """
    x, y = digits()
    draw = np.random.RandomState(0)
    model = network(draw)
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    rule = thalweg.create(optimizer, model.parameters(), **options)
    order, losses = np.arange(len(x)), list[float]()
    for _ in range(epochs):
        order = order[_shuffled(draw, len(x))]
        total = 0.0
        for start in range(0, len(x), BATCH):
            rows = torch.as_tensor(order[start : start + BATCH])
            decay = 0.5 * ALPHA * torch.stack([weight.square().sum() for weight in weights]).sum() / len(rows)
            batch_loss = F.cross_entropy(model(x[rows]), y[rows]) + decay
            rule.zero_grad()
            cast(Any, batch_loss).backward()
            rule.step()
            total += batch_loss.item() * len(rows)
        losses.append(total / len(x))
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item(), losses


def network(draw: np.random.RandomState) -> nn.Sequential:
    """The network in float64; weights and biases uniform in ±√(6/(inputs + outputs)), drawn as the class draws them."""
    model = mlp(WIDTHS).double()
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer, (inputs, outputs) in zip(layers, pairwise(WIDTHS), strict=True):
        bound = np.sqrt(6 / (inputs + outputs))
        layer.weight.data = torch.as_tensor(draw.uniform(-bound, bound, (inputs, outputs))).T.contiguous()
        layer.bias.data = torch.as_tensor(draw.uniform(-bound, bound, outputs))
    return model


def _shuffled(draw: np.random.RandomState, rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    order = np.arange(rows)
    draw.shuffle(order)
    return order


def digits() -> tuple[Tensor, Tensor]:
    """All 1,797 digits, (1797, 64) in float64, each pixel scaled to [0, 1]; labels (1797,)."""
    pixels, numbers = untyped("sklearn.datasets").load_digits(return_X_y=True)
    scaled = untyped("sklearn.preprocessing").MinMaxScaler().fit_transform(pixels)
    return torch.as_tensor(scaled), torch.as_tensor(numbers)
