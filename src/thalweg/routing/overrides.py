"""What the caller decides himself: by module, by parameter or by exact name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from torch import Tensor, nn

from thalweg.core.names import without_wrappers
from thalweg.routing.network import Network

Choice: TypeAlias = Literal["matrix", "rest", "frozen"]
Overrides: TypeAlias = Mapping[nn.Module | Tensor | str, Choice | Mapping[str, Any]]
CHOICES: tuple[str, ...] = ("matrix", "rest", "frozen")


@dataclass(frozen=True)
class Override:
    """The keys that a caller sets for a parameter; ``route`` is one of ``CHOICES`` or None for what is found."""

    route: str | None
    options: dict[str, Any]


def resolve(network: Network, named: Mapping[str, Tensor], overrides: Overrides) -> dict[int, Override]:
    """The override of each parameter it touches, by id.  Of several the most exact holds: parameter, inner, outer module.

    Raises:
        TypeError, ValueError: a key that names nothing in the model, or a value that is no choice.
    """
    reached = [(_reach(network, named, key), _checked(key, value)) for key, value in overrides.items()]
    merged: dict[int, dict[str, Any]] = {}
    for parameters, value in sorted(reached, key=lambda pair: -len(pair[0])):
        # A module's norms and biases are no matrices; a parameter that is named itself is refused later.
        matrices = [p for p in parameters if p.ndim > 1] if value.get("route") == "matrix" else []
        for parameter in matrices or parameters:
            merged.setdefault(id(parameter), {}).update(value)
    return {key: Override(value.pop("route", None), value) for key, value in merged.items()}


def _reach(network: Network, named: Mapping[str, Tensor], key: nn.Module | Tensor | str) -> list[Tensor]:
    """The parameters that a key stands for."""
    found: list[Tensor]
    if isinstance(key, nn.Module):
        found = [*key.parameters()]
    elif isinstance(key, str):
        found = list(_by_name(network, named, key))
    else:
        found = [key]
    known = set(map(id, named.values()))
    if not found or not all(id(p) in known for p in found):
        what = repr(key) if isinstance(key, str) else f"the {type(key).__name__}"
        names = [*named, *(node.name for node in network.nodes if node.name)]
        near = difflib.get_close_matches(key, names, n=1) if isinstance(key, str) else []
        hint = (
            f"did you mean {near[0]!r}?" if near else "give a module, a parameter, or a name from named_parameters()."
        )
        raise ValueError(
            f"route: overrides has {what}, which is no parameter or module with parameters of the model; {hint}"
        )
    return found


def _by_name(network: Network, named: Mapping[str, Tensor], name: str) -> Iterator[Tensor]:
    bare = without_wrappers(name)
    yield from (p for n, p in named.items() if without_wrappers(n) == bare)
    yield from (p for node in network.nodes if without_wrappers(node.name) == bare for p in node.module.parameters())


def _checked(key: Any, value: Any) -> dict[str, Any]:
    options = dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else {"route": value}
    if "route" in options and options["route"] not in CHOICES:
        raise ValueError(
            f"route: overrides[{key!r}]={options['route']!r} is unknown; choose one of {', '.join(map(repr, CHOICES))}, or a"
            ' dict of group keys such as {"route": "matrix", "splits": (64, 64, 64)}.'
        )
    return options
