"""Tables of runs and of curve points, as CSV and as parquet."""

from collections.abc import Callable, Sequence
from pathlib import Path

from thalweg.lab.analysis import Run
from thalweg.lab.page import write_text
from thalweg.lab.tables import Row, as_csv, curves_table, runs_table
from thalweg.lab.untyped import untyped


def write_csv(runs: Sequence[Run], folder: Path) -> None:
    """Write runs.csv and curves.csv; what is unknown is an empty field."""
    _write(runs, folder, _csv)


def write_parquet(runs: Sequence[Run], folder: Path) -> None:
    """Write runs.parquet and curves.parquet; what is unknown is null."""
    _write(runs, folder, _parquet)


def _write(runs: Sequence[Run], folder: Path, write: Callable[[list[Row], Path], None]) -> None:
    write(runs_table(runs), folder / "runs")
    write(curves_table(runs), folder / "curves")


def _csv(table: list[Row], path: Path) -> None:
    write_text(path.with_suffix(".csv"), "--output", as_csv(table))


def _parquet(table: list[Row], path: Path) -> None:
    draft = path.with_suffix(".parquet.tmp")
    untyped("pyarrow.parquet").write_table(untyped("pyarrow").Table.from_pylist(table), draft)
    draft.replace(path.with_suffix(".parquet"))
