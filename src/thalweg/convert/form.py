"""What all sources share: a state dict taken apart, and the tables by which its groups and states are written as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

Group: TypeAlias = dict[str, Any]
States: TypeAlias = dict[Any, dict[str, Any]]
"""The state of parameters by the number, or name, under which their group lists them."""
Weights: TypeAlias = Iterable[Tensor] | Mapping[str, Tensor]


@dataclass(frozen=True)
class Told:
    """What the caller adds to a state dict: see ``convert``."""

    optimizer: str | None = None
    weights: Weights | None = None
    ema: bool | None = None
    summed: bool | None = None


@dataclass(frozen=True)
class Saved:
    """One group of a state dict, the state of its parameters, and their weights if they were given."""

    where: str  # how messages call it
    group: Group
    states: States
    weights: Mapping[Any, Tensor]
    told: Told

    def only(self, numbers: Iterable[Any]) -> Saved:
        """The group with some of its parameters."""
        kept = set(numbers)
        places = [place for place, i in enumerate(self.group["params"]) if i in kept]
        lists = {n: [self.group[n][place] for place in places] for n in ("params", "param_names") if n in self.group}
        return replace(self, group=self.group | lists, states={i: s for i, s in self.states.items() if i in kept})


Converted: TypeAlias = Iterable[tuple[Group, States]]


@dataclass(frozen=True)
class Form:
    """How a group of one of their classes, and the state of each of its parameters, is written as ours."""

    name: str  # their class
    group: Mapping[str, str]  # entries of a group: their name → ours
    state: Mapping[str, str]  # and of a state
    own: Group = field(default_factory=dict[str, Any])  # ours where theirs says nothing: it takes it for granted
    values: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict[str, Callable[[Any], Any]])  # by our name
    only: Mapping[str, Sequence[Any]] = field(
        default_factory=dict[str, Sequence[Any]]
    )  # values beside which ours has no form
    dropped: frozenset[str] = frozenset()  # entries of groups and states that ours does without

    def misses(self, group: Group) -> list[str]:
        """The entries without which a group is not of this form."""
        return [theirs for theirs, ours in self.group.items() if ours not in self.own and theirs not in group]


def same(*names: str) -> dict[str, str]:
    """Entries that are called the same."""
    return {name: name for name in names}


def decay(decoupled: bool) -> str:
    """What a flag for decoupled weight decay is called here."""
    return "decoupled" if decoupled else "l2"


def taken_apart(source: str, state_dict: Any, told: Told) -> Iterator[Saved]:
    """The groups of a state dict that has the form of one."""
    where = f"convert: source={source!r}"
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{where}: a state dict is needed, not {type(state_dict).__name__}.")
    given = cast("Mapping[str, Any]", state_dict)
    groups, states = given.get("param_groups"), given.get("state")
    if not isinstance(groups, list | tuple) or not isinstance(states, Mapping):
        found = ", ".join(map(repr, given)) or "nothing"
        raise ValueError(f"{where}: a state dict has a list 'param_groups' and a dict 'state'; this one has {found}.")
    for number, group in enumerate(cast("list[Any]", groups)):
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), list | tuple):
            raise ValueError(f"{where}: group {number} must be a dict with a list 'params'.")
    listed, kept = [dict(group) for group in cast("list[Group]", groups)], cast("Mapping[Any, Any]", states)
    if stray := [i for i in kept if not any(i in group["params"] for group in listed)]:
        raise ValueError(f"{where}: there is state for {stray[0]!r}, which no group lists.")
    weights = _numbered(where, listed, told.weights)
    for number, group in enumerate(listed):
        own: States = {i: dict(kept[i]) for i in group["params"] if kept.get(i)}
        yield Saved(f"{where}: group {number}", group, own, weights, told)


def _numbered(where: str, groups: list[Group], weights: Weights | None) -> dict[Any, Tensor]:
    """The weights of each parameter, by its number."""
    if weights is None:
        return {}
    numbers = [i for group in groups for i in group["params"]]
    if isinstance(weights, Mapping):
        if not all("param_names" in group for group in groups):
            raise ValueError(
                f"{where}: weights is a dict, and the state dict names no parameters; give a list, in their order."
            )
        names = [name for group in groups for name in group["param_names"]]
        if lacking := [name for name in names if name not in weights]:
            raise ValueError(f"{where}: weights lacks {listing(lacking)}.")
        return {i: weights[name].detach() for i, name in zip(numbers, names, strict=True)}
    given = list(weights)
    if len(given) != len(numbers):
        raise ValueError(f"{where}: weights has {len(given)} tensors; the state dict is of {len(numbers)} parameters.")
    return {i: w.detach() for i, w in zip(numbers, given, strict=True)}


def chosen(saved: Saved, forms: Sequence[Form], refused: Mapping[str, str]) -> Form:
    """The form that a group is of.

    Raises:
        ValueError: it is of none, or has an entry that gives away a class without a counterpart.
    """
    for entry, reason in refused.items():
        if entry in saved.group:
            raise ValueError(f"{saved.where} has {entry!r}: {reason}")
    for form in forms:
        if not form.misses(saved.group):
            return form
    raise ValueError(
        f"{saved.where} has the entries {listing(saved.group)}; expected is "
        + ", or ".join(f"{form.name}, which has {listing(form.group)}" for form in forms)
        + "."
    )


def rewritten(saved: Saved, form: Form) -> tuple[Group, States]:
    """A group and its states by a form's table; entries that it does not speak of, as a schedule's, stay."""
    group, where = saved.group, f"{saved.where} ({form.name})"
    if missing := form.misses(group):
        raise ValueError(f"{where} lacks {listing(missing)}.")
    for name, allowed in form.only.items():
        if name in group and group[name] not in allowed:
            raise ValueError(f"{where}: {name}={group[name]!r} has no counterpart here; covered is {listing(allowed)}.")
    spoken = {*form.group, *form.only, *form.dropped}
    ours = {n: v for n, v in group.items() if n not in spoken} | dict(form.own)
    for theirs, name in form.group.items():
        if theirs in group:
            ours[name] = form.values.get(name, flat)(group[theirs])
    return ours, {i: _state(f"{where}: the state of parameter {i!r}", form, s) for i, s in saved.states.items()}


def _state(what: str, form: Form, state: dict[str, Any]) -> dict[str, Any]:
    own = {n: s for n, s in state.items() if s is not None and n not in form.dropped}
    if own and own.keys() != form.state.keys():
        raise ValueError(f"{what} is {listing(own)}; expected is {listing(form.state)}. It is of another class.")
    return {form.state[n]: number(f"{what}: {n}", s) if n == "step" else s for n, s in own.items()}


def flat(value: Any) -> Any:
    """A hyperparameter as a tensor of one element, made 0-D."""
    if isinstance(value, tuple | list):
        return tuple(map(flat, cast("Sequence[Any]", value)))
    return value.reshape(()) if isinstance(value, Tensor) and value.numel() == 1 else value


def number(what: str, value: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """A count or sum as a 0-D tensor of its own, whether it was saved as a number or as a tensor of any shape."""
    plain = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if not isinstance(plain, int | float):
        raise TypeError(f"{what} is {type(value).__name__}; it must be one number.")
    return torch.tensor(float(plain), dtype=dtype)


def stepped(states: States, step: Any, what: str) -> States:
    """States with a step count that the group keeps, or nobody does."""
    return {i: s | {"step": number(what, step)} if s else s for i, s in states.items()}


def listing(names: Iterable[Any], most: int = 12) -> str:
    """Names for a message."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more or "nothing"
