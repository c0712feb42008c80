"""The contract of a task: what a comparison relies on.  Run it: pytest test_my_task.py"""

import itertools
import math
from pathlib import Path

import torch

from thalweg.lab.run import evaluate
from thalweg.lab.tasks import load_task

TASK = load_task(str(Path(__file__).with_name("my_task.py")))


def test_a_seed_decides_the_network_and_the_batches() -> None:
    """The same seed gives the same network and batches, so that optimizers can be compared in pairs."""
    for one, other in zip(TASK.model(3).parameters(), TASK.model(3).parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in itertools.islice(zip(TASK.batches(3), TASK.batches(3), strict=False), 20):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_two_seeds_differ() -> None:
    """Another seed gives another network and other batches, so that seeds tell something."""
    one, other = (torch.cat([p.flatten() for p in TASK.model(seed).parameters()]) for seed in (0, 1))
    assert not torch.equal(one, other)
    assert not torch.equal(next(TASK.batches(0))[0], next(TASK.batches(1))[0])


def test_the_loss_is_finite_and_every_parameter_gets_a_gradient() -> None:
    """The untrained loss can be trained on."""
    model, (inputs, targets) = TASK.model(0), next(TASK.batches(0))
    assert len(inputs) == len(targets) == TASK.batch_size
    loss = TASK.loss(model(inputs), targets)
    assert loss.dim() == 0
    assert loss.isfinite()
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), name


def test_the_metric_is_finite_and_training_betters_the_loss() -> None:
    """The metric is a number, and a few steps of Adam lower the loss."""
    model = TASK.model(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = evaluate(TASK, model, TASK.validation)
    for inputs, targets in itertools.islice(TASK.batches(0), 50):
        optimizer.zero_grad()
        TASK.loss(model(inputs), targets).backward()
        optimizer.step()
    after = evaluate(TASK, model, TASK.validation)
    assert math.isfinite(before.value)
    assert math.isfinite(after.value)
    assert after.loss < before.loss


def test_the_splits_are_not_empty() -> None:
    """There is something to choose by and something to report."""
    for inputs, targets in (TASK.validation, TASK.test, TASK.probe):
        assert len(inputs) == len(targets) > 0
