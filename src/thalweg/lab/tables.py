"""A study as tables: a row a run, and a row a point of a run's curve. The report and every form of export are made of them."""

import json
from collections.abc import Iterable
from typing import Any, cast

from thalweg.lab.analysis import Run
from thalweg.lab.plain import csv_text

Row = dict[str, Any]
"""Column name to text, number, bool or None."""
KEY = ("run", "task", "optimizer", "phase", "trial", "seed")
"""The first columns of both tables; ``run``, the run's path in the study, joins them."""


def runs_table(runs: Iterable[Run]) -> list[Row]:
    """Which run it is, its configuration, its result."""
    return _with_all_columns(_key(run) | settings(run) | outcome(run) for run in runs)


def curves_table(runs: Iterable[Run]) -> list[Row]:
    """Which run it is of, and the point."""
    return [key | vars(point) for run in runs for key in [_key(run)] for point in run.curve]


def as_csv(table: list[Row]) -> str:
    """Return a table as CSV; what is unknown is an empty field."""
    return csv_text(table[0] if table else KEY, (row.values() for row in table))


def settings(run: Run) -> Row:
    """What was known of a run before it started."""
    return flat(run.config.model_dump(mode="json"))


def outcome(run: Run) -> Row:
    """What a run came to."""
    return flat(run.result.model_dump(mode="json"))


def known(row: Row) -> Row:
    """The columns of a row that are not empty."""
    return {name: value for name, value in row.items() if value is not None}


def numbers(row: Row) -> dict[str, float]:
    """The numeric columns of a row that has them."""
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}


def flat(fields: dict[str, Any], above: str = "") -> Row:
    """Nested fields as one level, ``point: {lr: .1}`` as ``point_lr: .1``; a list as its JSON."""
    found: Row = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            found |= flat(cast(dict[str, Any], value), f"{above}{name}_")
        else:
            found[above + name] = json.dumps(value) if isinstance(value, list) else value
    return found


def _key(run: Run) -> Row:
    return {name: getattr(run.config, "path" if name == "run" else name) for name in KEY}


def _with_all_columns(rows: Iterable[Row]) -> list[Row]:
    """The same rows with one set of columns, in the order of their first appearance; None where a row has none."""
    given = list(rows)
    columns = dict.fromkeys(column for row in given for column in row)
    return [{column: row.get(column) for column in columns} for row in given]
