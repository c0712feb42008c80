"""An optimizer's next step, taken and taken back."""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer


def rehearsed(optimizer: Optimizer, params: Sequence[Tensor]) -> list[Tensor]:
    """What ``optimizer.step()`` would add to each parameter.  Parameters, state and groups are afterwards as they were.

    For any optimizer whose state is in ``state`` and ``param_groups``: nothing is assumed about its rule.  Until it is
    taken back, a copy of parameters and state is held.
    """
    before = [p.detach().clone() for p in params]
    with unchanged(optimizer), torch.no_grad():
        optimizer.step()
        return [p.detach() - x for p, x in zip(params, before, strict=True)]


@contextmanager
def unchanged(optimizer: Optimizer) -> Generator[None]:
    """Puts back parameters, state and groups, into the same tensors, at the end."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    values = [p.detach().clone() for p in params]
    groups = [dict(group) for group in optimizer.param_groups]
    state = {p: {name: (x, copied(x)) for name, x in own.items()} for p, own in states(optimizer).items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for p, x in zip(params, values, strict=True):
                p.copy_(x)
            for own in state.values():
                for x, value in own.values():
                    if isinstance(x, Tensor):
                        x.copy_(value)
        for group, were in zip(optimizer.param_groups, groups, strict=True):
            replace(group, were)
        now = states(optimizer)
        for p in list(now):
            if p not in state:
                del now[p]
        for p, own in state.items():
            replace(now[p], {name: x if isinstance(x, Tensor) else value for name, (x, value) in own.items()})


def copied(x: Any) -> Any:
    """A copy of an entry of the state."""
    return x.clone() if isinstance(x, Tensor) else copy.deepcopy(x)


def states(optimizer: Optimizer) -> dict[Tensor, dict[str, Any]]:
    """Of each parameter, its state by name."""
    return cast(Any, optimizer.state)


def replace(entries: dict[str, Any], were: dict[str, Any]) -> None:
    """Make a dict what it was, the dict itself staying the same."""
    entries.clear()
    entries.update(were)
