"""Nesterov's gradient at the look-ahead point, and torch's change of variables: two programs, one sequence of iterates.

The closure form evaluates the gradient where the momentum is about to carry the parameter, p − ημv.  The form in
common use (`nesterov=True`) stores that point in place of p: its parameter is the other's look-ahead point.

    python examples/nesterov_lookahead.py
"""

import torch
from torch import Tensor

import thalweg

LR, MOMENTUM, STEPS = 0.02, 0.9, 100
hessian = torch.diag(torch.tensor([1.0, 25.0], dtype=torch.float64))


def loss_at(p: Tensor) -> Tensor:
    return 0.5 * p @ hessian @ p


def start() -> Tensor:
    return torch.tensor([3.0, 1.0], dtype=torch.float64, requires_grad=True)


p, q = start(), start()
ahead = thalweg.SGD([p], lr=LR, momentum=MOMENTUM, nesterov="lookahead")
stored = thalweg.SGD([q], lr=LR, momentum=MOMENTUM, nesterov=True)


def closure() -> float:
    ahead.zero_grad()
    loss = loss_at(p)
    loss.backward()
    return loss.item()


furthest = 0.0
for _ in range(STEPS):
    ahead.step(closure)
    stored.zero_grad()
    loss_at(q).backward()
    stored.step()
    lookahead = p.detach() - LR * MOMENTUM * ahead.state[p]["momentum_buffer"]
    furthest = max(furthest, (lookahead - q.detach()).abs().max().item())

print(f"after {STEPS} steps: loss {loss_at(p).item():.2e}; the two differ by at most {furthest:.1e}")
assert furthest < 1e-12
