"""``route``: a model's parameters as the groups of one optimizer."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from thalweg.registry import OPTIMIZERS
from thalweg.routing.layers import depths
from thalweg.routing.network import Network
from thalweg.routing.overrides import Override, Overrides, resolve
from thalweg.routing.reading import Reading
from thalweg.routing.roles import NO_DECAY, Ambiguous, Place, Role, Verdict, judge
from thalweg.routing.table import Row, render

READING_KEYS = {f.name for f in fields(Reading)}
_SHOWN = 8  # ambiguous parameters in a message


class Routes(list[dict[str, Any]]):
    """Parameter groups, and a row for every parameter that says where it goes and why.

    Each group is ``{"params": [(name, parameter), …], "optimizer": name, **hyperparameters}``, with ``stacked``, ``splits`` and
    ``transposed`` where its parameters are not plain matrices.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], rows: Iterable[Row]) -> None:
        super().__init__(groups)
        self.rows = tuple(rows)

    def table(self) -> str:
        """All parameters with their reasons, in plain text; layers that repeat share a line."""
        return render(self.rows)


def route(
    model: nn.Module,
    matrix: str = "muon",
    rest: str = "adamw",
    *,
    matrix_options: Mapping[str, Any] | None = None,
    rest_options: Mapping[str, Any] | None = None,
    overrides: Overrides | None = None,
    layer_decay: float = 1.0,
    no_decay: Collection[Role] = NO_DECAY,
) -> Routes:
    """Groups for one optimizer: hidden matrices to one rule, everything else to another.

    Decided by the class of each module and its place in the model, never by a name, as ``print(route(model).table())`` shows.
    Hidden matrices are the weights of Linear, convolution, attention, recurrent layers and expert stacks; embeddings, output
    and input layers, routers, norms, biases, tokens and position tables are the rest.  Nothing is computed: the model may be
    on the meta device, sharded, compiled or in DDP.

    Args:
        model: the model; parameters with ``requires_grad=False`` are in no group.
        matrix: the optimizer of hidden matrices, a name of ``list_optimizers()``.
        rest: the optimizer of all other parameters.
        matrix_options: hyperparameters of the matrix groups; what is absent takes the default of the optimizer's class.
        rest_options: those of the rest.
        overrides: by module, parameter or exact name (of a module: all below it), ``"matrix"``, ``"rest"``, ``"frozen"`` (in no
            group), or a dict of group keys: ``{"route": "matrix", "splits": (64, 64, 64), "lr": 1e-3}``.
        layer_decay: factor in (0, 1] by which the learning rate falls with each layer from the output towards the input.
        no_decay: the roles that get ``weight_decay=0``; of ``NO_DECAY`` and, for one, ``"embedding"``.

    Returns:
        A list of groups for ``thalweg.Mixed``, with ``table()`` and ``rows``.

    Raises:
        ValueError: a parameter whose role is unclear, with the overrides that settle it; an unknown name or value.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"route: layer_decay={layer_decay!r} is out of range; allowed is 0 < x ≤ 1.")
    sides = {"matrix": Side.named(matrix, matrix_options), "rest": Side.named(rest, rest_options)}
    network = Network(model)
    decisions = _decide(network, model, overrides or {})
    depth, last = depths(network) if layer_decay < 1 else ({}, 0)

    groups: list[dict[str, Any]] = []
    rows: list[Row] = []
    for decision in decisions:
        if decision.route == "frozen":
            rows.append(_row(decision, None, {}))
            continue
        side = sides[decision.route].under(decision.options)
        keys = side.options | ({} if decision.verdict.role not in no_decay else {"weight_decay": 0.0})
        keys |= decision.verdict.reading.keys() | decision.options
        if layer_decay < 1:
            keys["lr"] = (side.defaults | keys)["lr"] * layer_decay ** (last - depth[id(decision.place.node)])
        rows.append(_row(decision, side, keys))
        _add(groups, {"optimizer": side.optimizer, **keys}, decision.place)
    return Routes(groups, rows)


@dataclass(frozen=True)
class Side:
    """An optimizer, the hyperparameters it is given, and the defaults of its class for the others."""

    optimizer: str
    options: dict[str, Any]
    defaults: dict[str, Any]

    @classmethod
    def named(cls, optimizer: str, options: Mapping[str, Any] | None) -> Side:
        """The optimizer of that name; ValueError if there is none."""
        if optimizer not in OPTIMIZERS:
            near = difflib.get_close_matches(str(optimizer).lower(), OPTIMIZERS, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"route: unknown optimizer {optimizer!r}. {hint}Known are {', '.join(OPTIMIZERS)}.")
        dummy = torch.zeros(1, 1, requires_grad=True)  # a class tells its defaults only when it is made
        return cls(optimizer, dict(options or {}), OPTIMIZERS[optimizer]([dummy]).defaults)

    def under(self, override: dict[str, Any]) -> Side:
        """Itself, or another optimizer with its own defaults, if an override names one."""
        name = override.pop("optimizer", self.optimizer)
        return self if name == self.optimizer else Side.named(name, {})


@dataclass(frozen=True)
class Decision:
    """What is done with a parameter: the verdict of the rules, or the caller's."""

    place: Place
    verdict: Verdict
    route: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])


def _decide(network: Network, model: nn.Module, overrides: Overrides) -> list[Decision]:
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
    try:
        found = judge(places)
    except Ambiguous:
        found = Verdict("override", "")
    kept = found if (found.role == "matrix") == (route == "matrix") else Verdict("override", "")
    return replace(kept, reason="override") if route != "frozen" else Verdict("frozen", "override: in no group")


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


def _row(decision: Decision, side: Side | None, keys: dict[str, Any]) -> Row:
    place, verdict = decision.place, decision.verdict
    values = (side.defaults | keys) if side is not None else {}
    return Row(
        name=place.name,
        shape=place.shape,
        elements=place.parameter.numel(),
        optimizer=side.optimizer if side is not None else None,
        how=verdict.reading.describe(place.shape) if decision.route == "matrix" else "",
        decay=float(values.get("weight_decay", 0.0)),
        lr=float(values.get("lr", 0.0)),
        role=verdict.role,
        reason=verdict.reason,
    )


def _add(groups: list[dict[str, Any]], keys: dict[str, Any], place: Place) -> None:
    """Put a parameter into the group with its keys, or into a new one."""
    for group in groups:
        if {name: value for name, value in group.items() if name != "params"} == keys:
            group["params"].append((place.name, place.parameter))
            return
    groups.append({"params": [(place.name, place.parameter)], **keys})
