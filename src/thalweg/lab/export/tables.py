"""Tables of runs and of curve points, as CSV and as parquet."""

from collections.abc import Callable, Sequence
from pathlib import Path

from thalweg.lab.analysis import Run
from thalweg.lab.export.rows import Row, curve_rows, run_row, with_all_columns
from thalweg.lab.page import write_text
from thalweg.lab.plain import csv_text
from thalweg.lab.untyped import untyped


def write_csv(runs: Sequence[Run], folder: Path) -> None:
    """Write runs.csv and curves.csv; what is unknown is an empty field."""
    _write(runs, folder, _csv)


def write_parquet(runs: Sequence[Run], folder: Path) -> None:
    """Write runs.parquet and curves.parquet; what is unknown is null."""
    _write(runs, folder, _parquet)


def _write(runs: Sequence[Run], folder: Path, write: Callable[[list[Row], Path], None]) -> None:
    write(with_all_columns(map(run_row, runs)), folder / "runs")
    write(with_all_columns(row for run in runs for row in curve_rows(run)), folder / "curves")


def _csv(rows: list[Row], path: Path) -> None:
    write_text(path.with_suffix(".csv"), "--output", csv_text(rows[0], (row.values() for row in rows)))


def _parquet(rows: list[Row], path: Path) -> None:
    draft = path.with_suffix(".parquet.tmp")
    untyped("pyarrow.parquet").write_table(untyped("pyarrow").Table.from_pylist(rows), draft)
    draft.replace(path.with_suffix(".parquet"))
