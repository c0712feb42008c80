"""A study as flat rows: what every form of export is made of."""

import json
from collections.abc import Iterable
from typing import Any, cast

from thalweg.lab.analysis import Run

Row = dict[str, Any]
"""Column name to text, number, bool or None."""


def run_row(run: Run) -> Row:
    """One finished run: its path in the study, its configuration, its result."""
    return {
        "run": run.config.path,
        **flat(run.config.model_dump(mode="json")),
        **flat(run.result.model_dump(mode="json")),
    }


def curve_rows(run: Run) -> list[Row]:
    """The points of a run's curve."""
    return [{"run": run.config.path, **flat(point.model_dump(mode="json"))} for point in run.curve]


def flat(fields: dict[str, Any], above: str = "") -> Row:
    """Nested fields as one level, ``point: {lr: .1}`` as ``point_lr: .1``; a list as its JSON."""
    found: Row = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            found |= flat(cast(dict[str, Any], value), f"{above}{name}_")
        else:
            found[above + name] = json.dumps(value) if isinstance(value, list) else value
    return found


def with_all_columns(rows: Iterable[Row]) -> list[Row]:
    """The same rows with one set of columns, in the order of their first appearance; None where a row has none."""
    given = list(rows)
    columns = dict.fromkeys(column for row in given for column in row)
    return [{column: row.get(column) for column in columns} for row in given]


def numbers(row: Row) -> dict[str, float]:
    """The numeric columns of a row that has them, except which run it is."""
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}


def settings(row: Row) -> Row:
    """What is known of a run before it starts: no column that is empty."""
    return {name: value for name, value in row.items() if value is not None}
