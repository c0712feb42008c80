"""An optimizer's next step, taken and taken back."""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.curvature.quiet import RandomNumbers


def rehearsed(optimizer: Optimizer, params: Sequence[Tensor]) -> list[Tensor]:
    """What ``optimizer.step()`` would add to each parameter.  Nothing of it stays, whatever the step writes or draws.

    For any optimizer whose state is in ``state`` and ``param_groups``: nothing is assumed about its rule.  Until it is
    taken back, a copy of parameters, gradients and state is held.
    """
    before = [p.detach().clone() for p in params]
    with unchanged(optimizer), torch.no_grad():
        optimizer.step()
        return [p.detach() - x for p, x in zip(params, before, strict=True)]


@contextmanager
def unchanged(optimizer: Optimizer) -> Generator[None]:
    """Puts back parameters, gradients, state, groups and random numbers, into the same tensors, at the end."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in params]
    written = [(x.detach(), x.detach().clone()) for x in (*params, *gradients) if x is not None]
    groups = [Entries(group, deep=False) for group in optimizer.param_groups]
    state = {p: Entries(own, deep=True) for p, own in states(optimizer).items()}
    drawn = RandomNumbers.everywhere()
    try:
        yield
    finally:
        for p, g in zip(params, gradients, strict=True):
            p.grad = g
        for x, value in written:
            x.copy_(value)
        for entries in (*groups, *state.values()):
            entries.restore()
        now = states(optimizer)
        now.clear()
        now.update({p: entries.entries for p, entries in state.items()})
        drawn.restore()


class Entries:
    """A dict as it is: the same tensors with their values; other entries as copies if ``deep``, else themselves."""

    def __init__(self, entries: dict[str, Any], deep: bool) -> None:
        self.entries = entries
        self.kept = {n: copy.deepcopy(x) if deep and not isinstance(x, Tensor) else x for n, x in entries.items()}
        self.values = {n: x.detach().clone() for n, x in entries.items() if isinstance(x, Tensor)}

    def restore(self) -> None:
        """Put everything back; the dict itself stays the same."""
        self.entries.clear()
        self.entries.update(self.kept)
        for name, value in self.values.items():
            self.kept[name].detach().copy_(value)


def states(optimizer: Optimizer) -> dict[Tensor, dict[str, Any]]:
    """Of each parameter, its state by name."""
    return cast(Any, optimizer.state)
