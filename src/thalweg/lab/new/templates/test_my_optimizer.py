"""What the lab relies on in an optimizer.  Run it: pytest test_my_optimizer.py"""

import copy
from pathlib import Path

import torch

import thalweg
from thalweg.lab.space import default_point, entry

ENTRY = entry(str(Path(__file__).with_name("my_optimizer.py")))


def make(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    """Make the optimizer at the point of a user who tunes nothing."""
    return thalweg.create(ENTRY.rule, parameters, **ENTRY.keywords(default_point(ENTRY)))


def step(optimizer: torch.optim.Optimizer, x: torch.Tensor) -> float:
    """Take one step on a quadratic with its minimum at 1; return the loss before it."""
    optimizer.zero_grad()
    loss = (x - 1).square().sum()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_it_is_its_equation() -> None:
    """A naive loop in float64: replace it by that of your own rule."""
    x = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    p, m, lr, beta = x.detach().clone(), torch.zeros(3, dtype=torch.float64), default_point(ENTRY)["lr"], 0.9
    optimizer = make([x])
    for _ in range(5):
        m = beta * m + (1 - beta) * 2 * (p - 1)
        p = p - lr * m.sign()
        step(optimizer, x)
    torch.testing.assert_close(x.detach(), p)


def test_it_betters_a_quadratic() -> None:
    """Fifty steps lower the loss."""
    x = torch.tensor([3.0, -2.0], requires_grad=True)
    optimizer = make([x])
    losses = [step(optimizer, x) for _ in range(50)]
    assert losses[-1] < losses[0]


def test_it_continues_from_its_state_bit_for_bit() -> None:
    """Saved and loaded, it goes on as if nothing had happened."""
    x = torch.tensor([3.0, -2.0], requires_grad=True)
    optimizer = make([x])
    for _ in range(3):
        step(optimizer, x)
    y = x.detach().clone().requires_grad_()
    other = make([y])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        step(optimizer, x)
        step(other, y)
    assert torch.equal(x, y)
