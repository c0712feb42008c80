"""The two sets of weights of an averaging optimizer: those it trains, and the average that stands in for them in evaluation.

The trained ones are kept beside the average meanwhile, so that both are exact in either mode and in a checkpoint of either.
A state dict says by checksums which weights it belongs to: loaded beside those of the other mode, it is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thalweg.core import average
from thalweg.core.rule import Group, State, as_parameter, tensors_of
from thalweg.core.sharding import local, over_processes, placement

TRAINED = "training_param"
"""Name in the state of the weights trained on, while the average is in the parameter."""
MODES = {True: "training", False: "evaluation"}

States = dict[Tensor, dict[str, Any]]


def kept(group: Group) -> dict[str, State]:
    """The tensors that evaluation adds to the state."""
    return {} if group["train_mode"] or group["average"] is None else {TRAINED: as_parameter}


def switch(group: Group, states: States, *, train: bool) -> None:
    """Bring a group into a mode; nothing happens if it is in it."""
    if group["train_mode"] == train:
        return
    group["train_mode"] = train
    if group["average"] is None:
        return
    for p in group["params"]:
        if (state := _with_average(group, states, p)) is None:
            continue
        if train:
            p.detach().copy_(state.pop(TRAINED))
        else:
            state[TRAINED] = p.detach().clone()
            local(p.detach()).copy_(_averaged(group, p, state))


def checksums(group: Group, states: States) -> dict[str, int]:
    """What a saved group says of both its sets of weights."""
    return {_entry(train): _checksum(group, states, train=train) for train in MODES if group["average"] is not None}


@dataclass(frozen=True)
class Belongs:
    """Which weights a loaded group's state belongs to."""

    group: Group
    number: int
    checksums: dict[bool, int]  # by mode

    def fits(self, owner: str) -> bool:
        """Whether these are the weights that the parameters hold.

        Raises:
            ValueError: they hold those of the other mode.
        """
        train = self.group["train_mode"]
        found = sum(_bits(p) for p in self.group["params"]) & _MASK
        if found == self.checksums[train]:
            return True
        if found == self.checksums[not train]:
            raise ValueError(
                f"{owner}: the state of group {self.number} was saved in {MODES[train]} mode, and its parameters hold the"
                f" weights of {MODES[not train]} mode: save model and optimizer in one mode, and load what belongs together."
            )
        return False


def belonging(owner: str, groups: list[Group]) -> Iterator[Belongs]:
    """Take the checksums out of loaded groups."""
    for number, group in enumerate(groups):
        sums: dict[bool, Any] = {train: group.pop(_entry(train), None) for train in MODES}
        for train, value in sums.items():
            if value is not None and type(value) is not int:
                raise TypeError(f"{owner}: {_entry(train)}={value!r} of group {number} must be a whole number.")
        if group["average"] is not None and None not in sums.values():
            yield Belongs(group, number, sums)


def require(owner: str, loaded: list[Belongs]) -> None:
    """Before weights are used together with a loaded state: they must not be of its other mode, and should be its own."""
    if foreign := [one for one in loaded if not one.fits(owner)]:
        warnings.warn(
            f"{owner}: the parameters of group {foreign[0].number} are not those its state was saved with, and an average"
            " goes on from both; load the model's weights of the same checkpoint.",
            stacklevel=3,
        )


_MASK = (1 << 63) - 1
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _entry(train: bool) -> str:
    return f"{MODES[train]}_weights"


def _with_average(group: Group, states: States, p: Tensor) -> dict[str, Any] | None:
    """The state of a parameter, or None while it has made no step under the average, which the parameter itself is then."""
    state = states.get(p, {})
    return state if tensors_of(dict(average.of(group).state)).keys() <= state.keys() else None


def _averaged(group: Group, p: Tensor, state: dict[str, Tensor]) -> Tensor:
    return average.evaluated(group, local(p.detach()), {name: local(s) for name, s in state.items()})


def _checksum(group: Group, states: States, *, train: bool) -> int:
    """Of the weights that the group has in a mode, whichever it is in."""
    total = 0
    for p in group["params"]:
        state = _with_average(group, states, p)
        if group["train_mode"] == train or state is None:
            total += _bits(p)
        elif train:
            total += _bits(state[TRAINED])
        else:
            total += _bits(p, _averaged(group, p, state).to(p.dtype))
    return total & _MASK


def _bits(p: Tensor, values: Tensor | None = None) -> int:
    """The sum of a tensor's bit patterns: the same in any order, and over any number of processes."""
    x = local(p.detach()) if values is None else values
    return int(over_processes("sum", placement(p), x.view(_INTEGERS[x.element_size()]).sum(dtype=torch.int64)))
