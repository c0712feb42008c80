"""Full-batch training at the edge of stability: the sharpness rises to the optimizer's threshold and hovers there."""

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import thalweg
from thalweg.curvature import SharpnessRatio, hessian, sharpness_ratio
from thalweg.lab.models import mlp
from thalweg.lab.untyped import untyped
from thalweg.lab.verify.references import Measurement

ROWS = 500
WIDTHS = [64, 64, 64, 10]
EVERY = 25
"""Steps between two probes."""


def ratio(optimizer: str, options: dict[str, Any], steps: int, activation: str) -> Measurement:
    """Train on 500 digits: λ₁(P^-½HP^-½) ÷ threshold, median of the second half and its 10–90 % range."""
    trace = trained(ROWS, WIDTHS, optimizer, options, steps, activation)
    ratios = np.divide(trace["sharpness"], trace["threshold"])
    low, middle, high = np.quantile(ratios[len(ratios) // 2 :], [0.1, 0.5, 0.9]).tolist()
    return Measurement(middle, low, high, trace)


def sharpness(lr: float, steps: int) -> Measurement:
    """Train a wider network on 1,000 digits by gradient descent: λ₁(H), median of the second half, its lowest and highest."""
    trace = trained(1000, [64, 200, 200, 10], "sgd", {"lr": lr}, steps, "Tanh")
    second_half = trace["sharpness"][len(trace["sharpness"]) // 2 :]
    return Measurement(float(np.median(second_half)), min(second_half), max(second_half), trace)


def trained(
    rows: int, widths: list[int], optimizer: str, options: dict[str, Any], steps: int, activation: str
) -> dict[str, list[float]]:
    """Train on digits in full batch and measure sharpness and threshold every 25 steps.

    ``L = ½ mean ‖f(x) − onehot(y)‖²``; pixels standardized as a whole, torch's own initialization, seed 0.
    """
    x, y = digits(rows)
    torch.manual_seed(0)
    model = mlp(widths, getattr(nn, activation))
    rule = thalweg.create(optimizer, model.parameters(), **options)

    def loss_fn() -> Tensor:
        return 0.5 * (model(x) - y).square().sum(1).mean()

    trace: dict[str, list[float]] = {"step": [], "sharpness": [], "threshold": [], "loss": []}
    found: SharpnessRatio | None = None
    for step in range(1, steps + 1):
        rule.zero_grad()
        cast(Any, loss_fn()).backward()
        rule.step()
        if step % EVERY == 0:
            H = hessian(loss_fn, model)
            found = sharpness_ratio(H, rule, start=found)
            row = (step, found.sharpness, found.threshold, H.loss.item())
            for column, value in zip(trace.values(), row, strict=True):
                column.append(value)
    return trace


def digits(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """The first digits, (rows, 64), less their mean and over their deviation; one-hot targets (rows, 10)."""
    pixels, numbers = untyped("sklearn.datasets").load_digits(return_X_y=True)
    x = torch.as_tensor(pixels[:rows], dtype=torch.float32)
    return (x - x.mean()) / x.std(), F.one_hot(torch.as_tensor(numbers[:rows]), 10).float()
