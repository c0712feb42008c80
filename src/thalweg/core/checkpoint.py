"""State dicts: what a saved one says, checked against an optimizer as a whole before any of it is taken.

The form is torch's, so that checkpoints pass both ways.  What torch's own loading does not do is done here: state keeps its
dtype whatever the parameter's, nothing shares memory with the saved tensors, parameters are matched by name where names are
known, and a state dict that does not fit is refused with nothing changed.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from thalweg.core import carried, evaluation, precision
from thalweg.core.names import describe, without_wrappers
from thalweg.core.rule import Group, Recurrence, Rule
from thalweg.core.sharding import spread, whole

_RUN_OF_TORCH = frozenset(("foreach", "fused", "capturable", "differentiable"))  # how torch executes; ours has ``run``
_DECOUPLED = "decoupled_weight_decay"  # torch's word for decay="decoupled"


def saved(packed: dict[str, Any], rule_of: Callable[[Group], Rule]) -> dict[str, Any]:
    """What torch packs, for any reader: counters, which parameters share in memory, given to each as its own tensor."""
    counters = {i: carried.counters(rule_of(group), group) for group in packed["param_groups"] for i in group["params"]}
    own = {i: {n: s[n].clone() for n in counters[i] if n in s} for i, s in packed["state"].items()}
    groups = [group | {_DECOUPLED: group["decay"] == "decoupled"} for group in packed["param_groups"]]
    return packed | {"state": {i: s | own[i] for i, s in packed["state"].items()}, "param_groups": groups}


def fitted(
    owner: str,
    rule_of: Callable[[Group], Rule],
    check: Callable[[Group], None],
    groups: Sequence[Group],
    state_dict: Mapping[str, Any],
) -> dict[str, Any]:
    """The groups and state that an optimizer continues with; neither ``groups`` nor ``state_dict`` is changed.

    Raises:
        TypeError, ValueError: what does not fit, by name.
    """
    theirs, states = _sections(owner, state_dict)
    pairs = list(_paired(owner, groups, theirs))
    known = {i for *_, ids in pairs for i in ids}
    if stray := [i for i in states if i not in known]:
        raise ValueError(f"{owner}: the state dict has state for {stray[0]!r}, which none of its groups lists.")
    new_groups: list[Group] = []
    new_state: dict[Tensor, dict[str, Tensor]] = {}
    for number, (group, their_group, ids) in enumerate(pairs):
        if their_group.get("optimizer") not in (None, group.get("optimizer")):
            raise ValueError(
                f"{owner}: group {number} follows {group.get('optimizer', owner)}; it was saved under"
                f" {their_group['optimizer']}."
            )
        new_groups.append(_merged(group, their_group))
        rule = rule_of(new_groups[-1])
        check(new_groups[-1])
        for position, (p, i) in enumerate(zip(group["params"], ids, strict=True)):
            if i in states:
                what = f"{owner}: the state of {describe(groups, number, position)}"
                if own := _state_of(what, rule, new_groups[-1], p, states[i]):
                    new_state[p] = own
    return {"state": defaultdict(dict[str, Tensor], new_state), "param_groups": new_groups}


def _sections(owner: str, state_dict: Any) -> tuple[list[Group], dict[Any, Any]]:
    """The groups and states of a state dict that has the form of one."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{owner}: a state dict is needed, not {type(state_dict).__name__}.")
    given = cast("Mapping[str, Any]", state_dict)
    groups, states = given.get("param_groups"), given.get("state")
    if not isinstance(groups, list | tuple) or not isinstance(states, Mapping):
        raise ValueError(
            f"{owner}: a state dict has a list 'param_groups' and a dict 'state'; this one has"
            f" {', '.join(map(repr, given)) or 'nothing'}."
        )
    for i, group in enumerate(cast("list[Any]", groups)):
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), list | tuple) or "lr" not in group:
            raise ValueError(f"{owner}: group {i} of the state dict must be a dict with a list 'params' and an 'lr'.")
    return list(cast("list[Group]", groups)), dict(cast("Mapping[Any, Any]", states))


def _paired(owner: str, groups: Sequence[Group], theirs: list[Group]) -> Iterator[tuple[Group, Group, list[Any]]]:
    """Each group with the saved one that belongs to it, and the numbers under which its parameters were saved."""
    if all("param_names" in group for group in (*groups, *theirs)):
        yield from _by_name(owner, groups, theirs)
        return
    sizes, their_sizes = ([len(group["params"]) for group in side] for side in (groups, theirs))
    if sizes != their_sizes:
        raise ValueError(
            f"{owner}: the state dict is of groups of {their_sizes} parameters, the optimizer has groups of {sizes}."
        )
    for group, their_group in zip(groups, theirs, strict=True):
        yield group, their_group, list(their_group["params"])


def _by_name(owner: str, groups: Sequence[Group], theirs: list[Group]) -> Iterator[tuple[Group, Group, list[Any]]]:
    def named(side: Sequence[Group], form: Callable[[str], str]) -> list[list[str]]:
        return [[form(name) for name in group["param_names"]] for group in side]

    def sets(names: list[list[str]]) -> list[list[str]]:
        return sorted(map(sorted, names))

    for i, group in enumerate(theirs):
        if not len(set(group["param_names"])) == len(group["param_names"]) == len(group["params"]):
            raise ValueError(f"{owner}: group {i} of the state dict must name each of its parameters once.")
    ours, saved_names = named(groups, str), named(theirs, str)
    if sets(ours) != sets(saved_names):  # one side may be wrapped for compiling or for several processes
        ours, saved_names = named(groups, without_wrappers), named(theirs, without_wrappers)
    if sets(ours) != sets(saved_names):
        raise ValueError(f"{owner}: {_difference(ours, saved_names)}")
    left = list(range(len(theirs)))
    for group, names in zip(groups, ours, strict=True):
        number = next(i for i in left if set(saved_names[i]) == set(names))
        left.remove(number)
        numbers = dict(zip(saved_names[number], theirs[number]["params"], strict=True))
        yield group, theirs[number], [numbers[name] for name in names]


def _difference(ours: list[list[str]], theirs: list[list[str]]) -> str:
    """How two groupings of names differ, in a sentence."""
    here, there = ({name for names in side for name in names} for side in (ours, theirs))
    told: list[str] = []
    if missing := sorted(here - there):
        told.append(f"the state dict lacks {_listed(missing)}")
    if unknown := sorted(there - here):
        told.append(f"it has {_listed(unknown)}, which the optimizer does not")
    if told:
        return " and ".join(told) + ". Parameters are matched by name, as both sides give names."
    return "the state dict groups the parameters otherwise; give the optimizer the groups it was saved with."


def _listed(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _merged(group: Group, theirs: Group) -> Group:
    """What was saved, over what it says nothing of; parameters and their names stay."""
    kept = {n: v for n, v in theirs.items() if n not in ("params", "param_names", _DECOUPLED, *_RUN_OF_TORCH)}
    if _DECOUPLED in theirs and "decay" not in theirs:
        kept["decay"] = "decoupled" if theirs[_DECOUPLED] else "l2"
    return group | copy.deepcopy(kept)


def _state_of(what: str, rule: Rule, group: Group, p: Tensor, theirs: Any) -> dict[str, Tensor]:
    """The state of one parameter, in memory of its own, in the dtype, device and placement that its steps need."""
    if not isinstance(theirs, Mapping):
        raise TypeError(f"{what} is {type(theirs).__name__}; a dict is needed.")
    own = {n: s for n, s in cast("Mapping[str, Any]", theirs).items() if s is not None}
    if not own:
        return {}
    kept = carried.tensors(rule, group) | evaluation.kept(group)
    tensors, numbers = rule.tensors | kept, carried.counters(rule, group)
    needed = {*kept, *(n for n, r in numbers.items() if r.absent is None)}
    known = tensors.keys() | numbers.keys()
    if own.keys() - known or needed - own.keys():
        raise ValueError(
            f"{what} was saved as {_listed(own, most=9)}; with these hyperparameters it needs"
            f" {_listed(sorted(needed), most=9)}. It is of another rule, or not complete"
            f"{', or of an optimizer in training mode' if evaluation.kept(group) else ''}."
        )
    counters = {n: _counter(f"{what}: {n}", r, own.get(n, r.absent)) for n, r in numbers.items()}
    return {n: _tensor(f"{what}: {n}", p, own[n]) for n in tensors if n in own} | counters


def _tensor(what: str, p: Tensor, s: Any) -> Tensor:
    if not isinstance(s, Tensor) or not s.is_floating_point() or s.layout != torch.strided:
        raise TypeError(
            f"{what} is {s.dtype if isinstance(s, Tensor) else type(s).__name__}; it must be real and dense."
        )
    if s.shape != p.shape:
        raise ValueError(f"{what} has shape {tuple(s.shape)}; the parameter's is {tuple(p.shape)}.")
    dtype = precision.arithmetic_dtype(p.dtype)
    return spread(s.detach(), p).to(device=p.device, dtype=dtype, copy=True)


def _counter(what: str, kind: Recurrence, value: Any) -> Tensor:
    number = whole(value).item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise TypeError(f"{what} is {number!r}; it must be one number.")
    if not 0 <= number < torch.finfo(kind.dtype).max:
        raise ValueError(f"{what}={number!r} is out of range; allowed is 0 ≤ x < {torch.finfo(kind.dtype).max:.0e}.")
    return torch.tensor(float(number), dtype=kind.dtype)
