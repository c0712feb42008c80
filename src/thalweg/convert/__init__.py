"""State dicts of other libraries' optimizers, written as ours."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.convert.form import Converted, Saved, States, Told, Weights, taken_apart
from thalweg.convert.muons import of_keller, of_moonlight, of_torch_muon
from thalweg.convert.pytorch_optimizers import of_pytorch_optimizer
from thalweg.convert.schedule_free import of_schedulefree
from thalweg.convert.torchs import of_torch

__all__ = ["convert"]


@dataclass(frozen=True)
class Source:
    """A library: how a group of its state dicts is read, and what may be told of it."""

    read: Callable[[Saved], Converted]
    takes: tuple[str, ...] = ()


SOURCES = {
    "torch": Source(of_torch),
    "schedulefree": Source(of_schedulefree, ("weights",)),
    "keller_muon": Source(of_keller, ("ema", "summed")),
    "torch_muon": Source(of_torch_muon, ("ema",)),
    "moonlight": Source(of_moonlight, ("ema",)),
    "pytorch_optimizer": Source(of_pytorch_optimizer, ("optimizer", "weights", "ema")),
}


def convert(
    state_dict: Mapping[str, Any],
    source: str,
    *,
    optimizer: str | None = None,
    weights: Weights | None = None,
    ema: bool | None = None,
    summed: bool | None = None,
) -> dict[str, Any]:
    """The state dict of another library's optimizer as one of ours, which continues the run within rounding.

    ``optimizer.load_state_dict(thalweg.convert(saved, source="schedulefree"))``

    Its groups carry the hyperparameters that the run was saved with, so they replace those the optimizer was made with.
    Where theirs steps two rules, the groups say which, for ``thalweg.Mixed``: matrices are "muon", the rest is "adamw"; one
    group of both becomes two, matrices first.  ``state_dict`` is not changed.

    Args:
        state_dict: what the other optimizer's ``state_dict()`` returned.
        source: ``"torch"``, ``"schedulefree"``, ``"keller_muon"``, ``"torch_muon"``, ``"moonlight"`` or
            ``"pytorch_optimizer"``.
        optimizer: pytorch_optimizer: the class that saved it, such as ``"MARS"``; its state dicts do not say.
        weights: schedule-free, saved in evaluation mode: the model's weights of that checkpoint, in the order that the
            optimizer was given them, or by name if it was given names.
        ema: Muon: keep the momentum as an average, or as a sum; None: as it was saved.  The steps are the same.
        summed: K. Jordan's Muon: whether it was saved by a version whose momentum is the sum M ← μM + g.

    Raises:
        TypeError: not a state dict, or an argument that the source does not take.
        ValueError: an unknown source, or a state dict of another class than it says; the message names what is expected.
    """
    if source not in SOURCES:
        near = difflib.get_close_matches(str(source), SOURCES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"convert: source={source!r} is unknown. {hint}Known are {', '.join(map(repr, SOURCES))}.")
    told = dict(optimizer=optimizer, weights=weights, ema=ema, summed=summed)
    for name, value in told.items():
        if value is not None and name not in SOURCES[source].takes:
            takers = [repr(known) for known, one in SOURCES.items() if name in one.takes]
            raise TypeError(f"convert: {name} is for source={' or '.join(takers)}, not {source!r}.")
    parts = list(taken_apart(source, state_dict, Told(optimizer, weights, ema, summed)))
    converted = [pair for part in parts for pair in SOURCES[source].read(part)]
    states: States = {i: state for _, own in converted for i, state in own.items() if state}
    return {"state": states, "param_groups": [group for group, _ in converted]}
