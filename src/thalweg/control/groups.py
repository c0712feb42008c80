"""An optimizer's parameter groups, made anew by name, and what a step of each is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from thalweg.core.names import describe, named


def regroup(owner: str, base: Optimizer, groups: Mapping[str, Iterable[Tensor]]) -> None:
    """Give the base a parameter group for each name; where a name takes from several of its groups, one from each.

    Hyperparameters are those of the group that a parameter was in; state stays.  Names without parameters make no group.

    Raises:
        TypeError: no mapping of names to parameters.
        ValueError: a parameter under two names or under none, or one that the base does not have.
    """
    if not isinstance(groups, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"{owner}: groups is {type(groups).__name__}; it must map names to parameters, as"
            " {name: m.parameters() for name, m in model.named_children()}."
        )
    chosen = names_of(owner, base, groups)
    made: list[dict[str, Any]] = []
    for number, group in enumerate(base.param_groups):
        parts: dict[str, list[int]] = {name: [] for name in groups}
        for j, p in enumerate(group["params"]):
            parts[chosen[p]].append(j)
        for name, members in parts.items():
            if members:
                made.append(part_of(group, members) | {"name": (name, number)})
    names = [group["name"][0] for group in made]
    for group in made:
        name, number = group["name"]
        group["name"] = name if names.count(name) == 1 else f"{name}, group {number}"
    base.__setstate__({"state": base.state, "param_groups": made})  # as torch puts in groups that it loads


def names_of(owner: str, base: Optimizer, groups: Mapping[str, Iterable[Tensor]]) -> dict[Tensor, str]:
    """Under which name each parameter of the base is."""
    places = {p: (i, j) for i, group in enumerate(base.param_groups) for j, p in enumerate(group["params"])}
    chosen: dict[Tensor, str] = {}
    for name, params in groups.items():
        for called, p in named(params):
            if p not in places:
                raise ValueError(
                    f"{owner}: groups[{name!r}] has {called}, shape {tuple(p.shape)}, which the optimizer does not have."
                )
            if chosen.setdefault(p, name) != name:
                raise ValueError(
                    f"{owner}: {described(base, places[p])} is in groups[{chosen[p]!r}] and in groups[{name!r}]; it has one"
                    " learning rate, so leave it out of one."
                )
    if left := [place for p, place in places.items() if p not in chosen]:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise ValueError(
            f"{owner}: {described(base, left[0])}{more} of the optimizer is under no name in groups, which must have every"
            " parameter."
        )
    return chosen


def described(base: Optimizer, place: tuple[int, int]) -> str:
    """A parameter in an error message, with its shape."""
    i, j = place
    return f"{describe(base.param_groups, i, j)}, shape {tuple(base.param_groups[i]['params'][j].shape)},"


def part_of(group: dict[str, Any], members: Sequence[int]) -> dict[str, Any]:
    """A group with some of its parameters."""
    lists = {n: [group[n][j] for j in members] for n in ("params", "param_names") if n in group}
    return group | lists


def name_of(groups: Sequence[dict[str, Any]], number: int) -> str:
    """What a group is called."""
    return str(groups[number].get("name", f"group {number}"))


@dataclass(frozen=True)
class Influence:
    """What a group's parameters were worth.

    Attributes:
        name: of the group.
        parameters: how many there are.
        lr: the learning rate found for it so far.
        ppi: the median of its parameter influence over the measurements; NaN if the loss was never convex along its moves.
        last: that of the last measurement.
    """

    name: str
    parameters: int
    lr: float
    ppi: float
    last: float


class Influences(tuple[Influence, ...]):
    """One for each group, in their order; as text a table, the most influential first."""

    def __str__(self) -> str:
        """The table."""
        header = ["group", "parameters", "lr", "PPI", "last PPI"]
        ranked = sorted(self, key=lambda one: -math.inf if math.isnan(one.ppi) else one.ppi, reverse=True)
        rows = [[one.name, f"{one.parameters:,}", *(f"{x:.3g}" for x in (one.lr, one.ppi, one.last))] for one in ranked]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in (header, *rows)
        )
