"""The rows of a routing, and the table that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from thalweg.routing.roles import Role


@dataclass(frozen=True)
class Row:
    """Where one parameter goes, and why."""

    name: str
    shape: tuple[int, ...]
    elements: int
    optimizer: str | None
    """None for a parameter in no group."""
    how: str
    """How it is read: as a matrix, flattened, in splits, as a stack."""
    decay: float
    lr: float
    role: Role
    reason: str


def render(rows: Sequence[Row]) -> str:
    """An aligned table in plain text, repeated layers in one line, with a total for each optimizer."""
    learning_rates = {(row.optimizer, row.lr) for row in rows if row.optimizer}
    layerwise = len(learning_rates) > len({optimizer for optimizer, _ in learning_rates})
    header = ["parameter", "shape", "goes to", "as", "decay", *(["lr"] if layerwise else []), "reason"]
    lines = [header, *(_cells(row, layerwise) for row in fold(rows))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*table, "", *_totals(rows)])


def _cells(row: Row, layerwise: bool) -> list[str]:
    shape = "×".join(map(str, row.shape)) or "scalar"
    if row.optimizer is None:
        return [row.name, shape, "none", "", "", *([""] if layerwise else []), row.reason]
    lr = [f"{row.lr:.3g}"] if layerwise else []
    return [row.name, shape, row.optimizer, row.how, f"{row.decay:g}", *lr, row.reason]


def _totals(rows: Sequence[Row]) -> list[str]:
    every = sum(row.elements for row in rows) or 1
    lines: list[str] = []
    for optimizer in dict.fromkeys(row.optimizer for row in rows):
        own = [row for row in rows if row.optimizer == optimizer]
        elements = sum(row.elements for row in own)
        lines.append(
            f"{optimizer or 'none'}: {len(own)} parameter{'s' * (len(own) > 1)}, {elements:,} elements, {elements / every:.1%}"
        )
    return lines


def fold(rows: Iterable[Row]) -> list[Row]:
    """Rows that differ in an index of their names alone, as ``h.{0..11}.mlp.weight``, in the place of the first."""
    parts = [(tuple(row.name.split(".")), row) for row in rows]
    for position in reversed(range(max((len(name) for name, _ in parts), default=0))):
        parts = _fold_at(parts, position)
    return [replace(row, name=".".join(name)) for name, row in parts]


def _fold_at(parts: list[tuple[tuple[str, ...], Row]], position: int) -> list[tuple[tuple[str, ...], Row]]:
    """Fold the indices at one position of the dotted names."""
    indices: dict[tuple[tuple[str, ...], Row], list[int]] = {}
    for name, row in parts:
        index = name[position] if position < len(name) else ""
        if index.isdecimal():
            key = ((*name[:position], "", *name[position + 1 :]), replace(row, name=""))
            indices.setdefault(key, []).append(int(index))
        else:
            indices[name, replace(row, name="")] = []
    return [
        ((*name[:position], _span(found), *name[position + 1 :]) if found else name, row)
        for (name, row), found in indices.items()
    ]


def _span(indices: list[int]) -> str:
    if len(indices) == 1:
        return str(indices[0])
    steady = len(indices) > 2 and indices == list(range(indices[0], indices[-1] + 1))
    return f"{{{indices[0]}..{indices[-1]}}}" if steady else f"{{{','.join(map(str, indices))}}}"
