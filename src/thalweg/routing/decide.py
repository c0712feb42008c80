"""The decision on every parameter: what the rules say, or the caller."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from thalweg.routing.network import Network
from thalweg.routing.overrides import Override, Overrides, resolve
from thalweg.routing.reading import Reading
from thalweg.routing.roles import Ambiguous, Place, Verdict, judge

READING_KEYS = {f.name for f in fields(Reading)}
_SHOWN = 8  # ambiguous parameters in a message


@dataclass(frozen=True)
class Decision:
    """What is done with a parameter: the verdict of the rules, or the caller's."""

    place: Place
    verdict: Verdict
    route: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])


def decide(network: Network, model: nn.Module, overrides: Overrides) -> list[Decision]:
    """A decision on every parameter, in the model's order; ValueError for all that are ambiguous together."""
    named = dict(model.named_parameters())
    if lazy := next((name for name, p in named.items() if is_lazy(p)), None):
        raise ValueError(f"route: {lazy!r} has no shape yet; run one batch through the model first.")
    chosen = resolve(network, named, overrides)
    places = _places(network)
    decisions: list[Decision] = []
    unclear: dict[str, str] = {}
    for name, parameter in named.items():
        try:
            decisions.append(_decision(name, places[id(parameter)], chosen.get(id(parameter))))
        except Ambiguous as error:
            unclear[name] = f"{name} {tuple(parameter.shape)}: {error}"
    if unclear:
        raise ValueError(_question(unclear))
    return decisions


def verdicts(model: nn.Module) -> dict[int, Verdict]:
    """What the rules say of each parameter, by id, without those whose role is unclear."""
    found: dict[int, Verdict] = {}
    for key, places in _places(Network(model)).items():
        with suppress(Ambiguous):
            found[key] = judge(places)
    return found


def _places(network: Network) -> dict[int, list[Place]]:
    places: dict[int, list[Place]] = {}
    for node in network.nodes:
        for attribute, parameter in node.module.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(id(parameter), []).append(Place(attribute, parameter, node, network))
    return places


def _decision(name: str, places: list[Place], override: Override | None) -> Decision:
    place = places[0]
    if override is None or override.route is None or not place.parameter.requires_grad:
        verdict = judge(places)
        route = verdict.role if verdict.role in ("matrix", "frozen") else "rest"
        options = dict(override.options) if override is not None else {}
    else:
        verdict, route, options = _overridden(places, override.route), override.route, dict(override.options)
    reading = replace(verdict.reading, **{key: options.pop(key) for key in READING_KEYS & options.keys()})
    if route == "matrix":
        _check(name, place.shape, reading)
    return Decision(place, replace(verdict, reading=reading), route, options)


def _overridden(places: list[Place], route: str) -> Verdict:
    """The caller's verdict, with what the rules know of how to read the parameter, or whether it decays."""
    if route == "frozen":
        return Verdict("frozen", "override: in no group")
    try:
        found = judge(places)
    except Ambiguous:
        found = Verdict("override", "")
    if (found.role == "matrix") != (route == "matrix"):
        found = Verdict("matrix" if route == "matrix" else "override", "")
    return replace(found, reason="override")


def _check(name: str, shape: tuple[int, ...], reading: Reading) -> None:
    """Raise ValueError for a parameter that cannot be read as matrices in this way."""
    if len(shape) < (3 if reading.stacked else 2):
        what = "a stack of matrices" if reading.stacked else "a matrix"
        raise ValueError(
            f"route: overrides sends {name!r}, shape {shape}, to the matrices; {what} has more dimensions."
        )
    if reading.splits and sum(reading.splits) != (outputs := reading.outputs(shape)):
        raise ValueError(
            f"route: splits={reading.splits} of {name!r} add up to {sum(reading.splits)}; it has {outputs} outputs (shape"
            f" {shape}, transposed={reading.transposed})."
        )


def _question(unclear: dict[str, str]) -> str:
    """The message that asks for overrides."""
    names = list(unclear)[:_SHOWN]
    lines = [f"  {unclear[name]}" for name in names]
    if len(unclear) > _SHOWN:
        lines.append(f"  and {len(unclear) - _SHOWN} more")
    answers = ", ".join(f'"{name}": "matrix"' for name in names)
    return "\n".join(
        (
            "route: the role of these parameters does not follow from the model's structure:",
            *lines,
            'Say what each one is, "matrix", "rest" or "frozen", by name or by module:',
            f"  route(model, overrides={{{answers}}})",
        )
    )
