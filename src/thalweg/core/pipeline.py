"""The step of one parameter, or of a list of them: five stations, one direction.

    gradient → (1) gradient options → (2) the rule → (3) update options → (4) decay → (5) averaging → parameter

The order is written here and nowhere else, so every option composes with every rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from thalweg.core import average, decay, gradient, precision, update
from thalweg.core.options import left_to_stations
from thalweg.core.rule import Group, Rule, Scalar
from thalweg.core.sharding import Reach, farthest, local
from thalweg.core.station import Station


@dataclass(frozen=True)
class Pipeline:
    """What a step does, decided once: the active stations in order.  Equal pipelines share one compiled kernel."""

    maximize: bool
    gradient: tuple[Station, ...]
    rule: Rule
    switches: tuple[tuple[str, Any], ...]  # the rule's hyperparameters that choose a form: booleans, strings, None
    numbers: tuple[str, ...]  # the rule's other hyperparameters
    update: tuple[Station, ...]
    decay_in_update: tuple[Station, ...]
    decay: tuple[Station, ...]
    average: Station
    dtype: torch.dtype  # of state and arithmetic
    widens: bool  # the parameter is kept in a shorter dtype
    stochastic: bool
    guarded: bool  # a non-finite gradient leaves everything as it was

    @property
    def reach(self) -> Reach:
        """Of the parts, the farthest: whether a tensor may be cut into pieces."""
        return farthest(part.reach for part in (self.rule, *self.options, self.average))

    @property
    def options(self) -> tuple[Station, ...]:
        """The stations that the options ask for, but the average."""
        return (*self.gradient, *self.update, *self.decay_in_update, *self.decay)

    @property
    def one_pass(self) -> bool:
        """Whether there is nothing to fuse: no state, no option, the gradient added as it is."""
        kept = self.rule.tensors.keys() - dict(self.switches)
        return not (kept or self.options or self.average.state or self.widens or self.guarded)

    def step(self, p: Any, g: Any, state: dict[str, Any], t: Scalar, h: dict[str, Any], lane: Any = None) -> None:
        """Move ``p`` and ``state`` by one step, in place.

        Args:
            p, g: parameter and gradient: two tensors of one shape, or two TensorLists.  ``g`` is not written.
            state: the tensors of rule and stations by name, in ``self.dtype``.
            t: step count from 1.
            h: hyperparameters, options' numbers and running numbers by name; ``grad_norm`` and ``all_finite`` where used.
            lane: number of the first element within the optimizer (int64, 0-D), for stochastic rounding.
        """
        w = p.to(self.dtype) if self.widens else p
        g = g.to(self.dtype) if g.dtype != self.dtype else g
        live = state  # what is written back
        if self.guarded:  # work on copies, and let the flag decide on the device what is written back
            w = w if self.widens else w.clone()
            state = {name: s.clone() for name, s in live.items()}

        raw = g = -g if self.maximize else g
        for station in self.gradient:
            g = station(g, w, h, state)
        own = {name: state[name] for name in self.rule.tensors if name in state}
        u = self.rule(g, w, t, **own, **dict(self.switches), **{n: h[n] for n in self.numbers})
        u, tensors = (u[0], state | {"preconditioner": u[1]}) if self.rule.preconditions else (u, state)
        for station in self.update:
            u = station(u, raw, h, tensors)
        for station in self.decay_in_update:
            u = station(u, w, h, tensors)
        for station in (*self.decay, self.average):
            w = station(w, u, h, tensors)
        p, w = local(p), local(w)  # rounding looks at single elements

        if self.guarded:
            for name, s in live.items():
                s.copy_(torch.where(h["all_finite"], state[name], s))
            p.copy_(torch.where(h["all_finite"], precision.narrow(w, p, t, h, lane), p))
        elif self.widens:
            p.copy_(precision.narrow(w, p, t, h, lane))


def build(rule: Rule, group: Group, dtype: torch.dtype) -> Pipeline:
    """The pipeline of a group for parameters of this dtype."""
    switches = rule.switches(group)
    numbers = tuple(n for n in (*rule.hyperparameters, *rule.counters) if n != "step" and n not in dict(switches))
    wide = precision.arithmetic_dtype(dtype)
    group = left_to_stations(rule, group)
    return Pipeline(
        maximize=group["maximize"],
        gradient=gradient.stations(group),
        rule=rule,
        switches=switches,
        numbers=numbers,
        update=update.stations(group),
        decay_in_update=decay.in_update(group),
        decay=decay.on_parameter(group),
        average=average.of(group),
        dtype=wide,
        widens=wide != dtype,
        stochastic=precision.rounds_stochastically(group, dtype),
        guarded=group["nonfinite"] == "skip",
    )
