"""What each parameter of a group carries from step to step: what the rule declares, and what its options do."""

from __future__ import annotations

from thalweg.core import average, gradient
from thalweg.core.options import left_to_stations
from thalweg.core.rule import Group, Recurrence, Rule, State, recurrences_of, tensors_of


def tensors(rule: Rule, group: Group) -> dict[str, State]:
    """The state tensors of each parameter of a group: the rule's, and those of the options that keep any."""
    kept = {name: kind for name, kind in rule.tensors.items() if kind.exists(group)}
    return kept | tensors_of(_of_stations(rule, group))


def counters(rule: Rule, group: Group) -> dict[str, Recurrence]:
    """The numbers that each parameter of a group carries: the step count, the rule's own and those of the options."""
    return rule.counters | recurrences_of(_of_stations(rule, group))


def _of_stations(rule: Rule, group: Group) -> dict[str, State | Recurrence]:
    group = left_to_stations(rule, group)
    return {name: kind for one in (*gradient.stations(group), average.of(group)) for name, kind in one.state}
