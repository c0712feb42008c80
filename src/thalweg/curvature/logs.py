"""Where a monitor's records go: a file of comma-separated values, TensorBoard."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import Any, Protocol

from thalweg.curvature.monitor import CurvatureRecord


class CsvLog:
    """Appends each record to a file as a line, which is on the disk before training goes on.

    The first line names the columns.  An earlier run's file is continued: of a line that was cut when it was killed, nothing
    stays.  Steps that are trained again from a checkpoint are in the file twice; the later line is the present run's.

    Args:
        path: of the file, in a folder that exists.

    Raises:
        ValueError: when the first record comes, if the file has other columns, as with another k.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.columns: list[str] = []

    def __call__(self, record: CurvatureRecord) -> None:
        """Append it."""
        row = record.row()
        if not self.columns:
            self.columns = self.begun(list(row))
        with self.path.open("a", newline="") as file:
            # A group that joins later has no column.
            csv.DictWriter(file, self.columns, extrasaction="ignore", lineterminator="\n").writerow(row)
            file.flush()
            os.fsync(file.fileno())

    def begun(self, columns: list[str]) -> list[str]:
        """Make a file ready for more lines with these columns."""
        cut_last_line(self.path)
        if not self.path.exists() or not self.path.stat().st_size:
            with self.path.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(columns)
            return columns
        with self.path.open(newline="") as file:
            found = next(csv.reader(file))
        if found != columns:
            raise ValueError(
                f"CsvLog: {self.path} has the columns {', '.join(found)}; the records have {', '.join(columns)}."
                " Log to another file."
            )
        return columns


def cut_last_line(path: Path) -> None:
    """Remove what follows a file's last end of a line."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


class ScalarWriter(Protocol):
    """A ``SummaryWriter``, of torch.utils.tensorboard or tensorboardX."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Write a number."""


class TensorBoardLog:
    """Writes each number of a record as a scalar ``curvature/…`` at the record's step.

    Args:
        writer: a ``SummaryWriter`` of torch.utils.tensorboard or tensorboardX, made and closed by the caller.
        prefix: of the names.
    """

    def __init__(self, writer: ScalarWriter, prefix: str = "curvature") -> None:
        self.writer, self.prefix = writer, prefix

    def __call__(self, record: CurvatureRecord) -> None:
        """Write it."""
        for name, value in numbers(record, self.prefix).items():
            self.writer.add_scalar(name, value, record.step)


def numbers(record: CurvatureRecord, prefix: str = "curvature") -> dict[str, float]:
    """The finite numbers of a record, as ``curvature/sharpness`` and so on."""
    row = record.row()
    return {
        f"{prefix}/{name}": value
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }
