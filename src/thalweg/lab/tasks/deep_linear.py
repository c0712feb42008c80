"""A deep linear network that learns a linear map mode by mode.  Saxe et al. 2013, arXiv:1312.6120"""

from itertools import pairwise

import torch
from torch import nn

from thalweg.lab.tasks.digits import squared_error
from thalweg.lab.tasks.task import Metric, Splits, Task, epochs, hash_tensors

WIDTH, LAYERS = 16, 5
STRENGTHS = (4.0, 3.0, 2.0, 1.0)
"""Singular values of the map: each is learnt in its own time, the strongest first."""
NOISE = 0.1
"""Standard deviation of an output: what no network can learn."""
GAIN = 0.6
"""Of the random start: its products begin small, so that training begins on a plateau."""
TRAIN, HELD_OUT, BATCH = 1024, 512, 64


def maps() -> Splits:
    """Make inputs x (N, 16), standard normal, and outputs y = Ax + noise, A of rank 4."""
    draw = torch.Generator().manual_seed(0)
    rank = len(STRENGTHS)
    left, right = (nn.init.orthogonal_(torch.empty(WIDTH, rank), generator=draw) for _ in range(2))
    weights = left * torch.tensor(STRENGTHS) @ right.T
    x = torch.randn(TRAIN + 2 * HELD_OUT, WIDTH, generator=draw)
    y = x @ weights.T + NOISE * torch.randn(len(x), WIDTH, generator=draw)
    ends = [0, TRAIN, TRAIN + HELD_OUT, len(x)]
    return Splits(*((x[start:end], y[start:end]) for start, end in pairwise(ends)))


def network() -> nn.Sequential:
    """Build five linear layers without biases, orthogonal but for a small gain: the start whose time sect. 4 there knows."""
    layers = [nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=GAIN)
    return nn.Sequential(*layers)


def deep_linear_task() -> Task:
    """Learn the map by squared error."""
    data = maps()
    return Task(
        name="deep-linear",
        summary=f"learn a linear map of rank {len(STRENGTHS)} by {LAYERS} linear layers of width {WIDTH}",
        build=network,
        sample=epochs(*data.train),
        loss=lambda outputs, targets: squared_error(outputs, targets).mean(),
        metric=Metric("squared error", "per example", "min", margin=0.005, measure=squared_error),
        probe=data.train,
        validation=data.validation,
        test=data.test,
        batch_size=BATCH,
        budget=800,
        data_hash=hash_tensors(*data.train, *data.validation, *data.test),
    )
