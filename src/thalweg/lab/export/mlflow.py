"""MLflow, in a SQLite file of the folder, or where the user's ``MLFLOW_TRACKING_URI`` says."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thalweg.lab.analysis import Run
from thalweg.lab.tables import known, numbers, outcome, settings
from thalweg.lab.untyped import untyped

LONGEST = 250
"""Characters of a parameter: what every store of MLflow takes."""


def write(runs: Sequence[Run], folder: Path) -> None:
    """Write an MLflow run for each run, in one experiment a study."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # on unless told otherwise, and read on import
    entities = untyped("mlflow.entities")
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').absolute()}")
    client: Any = untyped("mlflow.tracking").MlflowClient(tracking_uri=uri)
    name = f"thalweg {runs[0].config.study}"
    begun = client.get_experiment_by_name(name)
    experiment = (
        begun.experiment_id if begun else client.create_experiment(name, f"{folder.absolute().as_uri()}/artifacts")
    )
    for run in runs:
        logged: str = client.create_run(experiment, run_name=run.config.path).info.run_id
        metrics = [
            entities.Metric(name, value, 0, point.step)
            for point in run.curve
            for name, value in numbers(vars(point)).items()
            if name != "step"
        ]
        metrics += [
            entities.Metric(f"result_{name}", value, 0, run.result.steps)
            for name, value in numbers(outcome(run)).items()
        ]
        parameters = [entities.Param(name, str(value)[:LONGEST]) for name, value in known(settings(run)).items()]
        client.log_batch(logged, metrics, parameters, [entities.RunTag("state", run.result.state)])
        client.set_terminated(logged, "FINISHED" if run.result.ok else "FAILED")
