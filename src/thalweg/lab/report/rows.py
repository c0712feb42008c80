"""A study's runs as tables for other programs: runs.csv, a line a run, and curves.csv, a line a point of a curve."""

from thalweg.lab.analysis import Analysis, Run
from thalweg.lab.plain import csv_text
from thalweg.lab.records import CurvePoint

_KEY = ("task", "optimizer", "phase", "trial", "seed")
_OUTCOME = ("state", "value", "loss", "test", "also", "untrained", "steps", "charged", "seconds", "milliseconds")
RUN_COLUMNS = (*_KEY, "point", *_OUTCOME, "state_bytes_per_parameter")
CURVE_COLUMNS = tuple(CurvePoint.model_fields)


def runs_csv(analysis: Analysis) -> str:
    """Return every finished run; empty fields are what a failed run does not have."""
    return csv_text(RUN_COLUMNS, (_run(run) for run in analysis.runs))


def _run(run: Run) -> list[object]:
    config, result = run.config, run.result
    own = {"point": _pairs(config.point), "also": _pairs(result.also)}
    return [own[name] if name in own else getattr(config if name in _KEY else result, name) for name in RUN_COLUMNS]


def _pairs(found: dict[str, float] | dict[str, float | None]) -> str:
    return " ".join(f"{name}={value}" for name, value in found.items())


def curves_csv(analysis: Analysis) -> str:
    """Return every point of the curves of the final runs and of those that measured sharpness."""
    runs = [run for cell in analysis.cells for run in [*cell.finals, *([cell.sharpness] if cell.sharpness else [])]]
    keys = [[getattr(run.config, name) for name in _KEY] for run in runs]
    return csv_text(
        (*_KEY, *CURVE_COLUMNS),
        ([*key, *vars(point).values()] for key, run in zip(keys, runs, strict=True) for point in run.curve),
    )
