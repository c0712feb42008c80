"""``route``: a model's parameters as the groups of one optimizer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from thalweg.registry import create
from thalweg.routing.decide import Decision, decide
from thalweg.routing.layers import depths
from thalweg.routing.network import Network
from thalweg.routing.overrides import Overrides
from thalweg.routing.roles import NO_DECAY, Place, Role
from thalweg.routing.table import Row, render


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
        layer_decay: factor in (0, 1] by which the learning rate falls with each layer from the output towards the input;
            one that ``overrides`` gives stays as it is.
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
    decisions = decide(network, model, overrides or {})
    depth, last = depths(network) if layer_decay < 1 else ({}, 0)

    groups: list[dict[str, Any]] = []
    rows: list[Row] = []
    for decision in decisions:
        if decision.route == "frozen":
            rows.append(_row(decision, None, {}))
            continue
        side, verdict = sides[decision.route].under(decision.options), decision.verdict
        keys: dict[str, Any] = {"optimizer": side.optimizer} | side.options
        if verdict.role in no_decay:
            keys["weight_decay"] = 0.0
        keys |= verdict.reading.keys() | decision.options
        if layer_decay < 1 and "lr" not in decision.options:
            keys["lr"] = (side.defaults | keys)["lr"] * layer_decay ** (last - depth[id(decision.place.node)])
        rows.append(_row(decision, side, keys))
        _add(groups, keys, decision.place)
    return Routes(groups, rows)


@dataclass(frozen=True)
class Side:
    """An optimizer, the hyperparameters it is given, and what its class makes of them and of the others."""

    optimizer: str
    options: dict[str, Any]
    defaults: dict[str, Any]

    @classmethod
    def named(cls, optimizer: str, options: Mapping[str, Any] | None = None) -> Side:
        """The optimizer of that name; ValueError if there is none."""
        dummy = torch.zeros(1, 1, requires_grad=True)  # a class tells its defaults only when it is made
        given = dict(options or {})
        return cls(optimizer, given, create(optimizer, [dummy], **given).defaults)

    def under(self, override: Mapping[str, Any]) -> Side:
        """Itself, or another optimizer with its own defaults, if an override names one."""
        name = override.get("optimizer", self.optimizer)
        return self if name == self.optimizer else Side.named(name)


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
