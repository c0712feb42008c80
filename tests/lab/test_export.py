"""`thalweg export`: what is written is what is stored, read back by other programs' readers."""

import csv
import json
import shutil
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import Command

from thalweg.lab.analysis import Analysis
from thalweg.lab.tables import flat, runs_table


def stored(analysis: Analysis) -> dict[str, Any]:
    return {run.config.path: run for run in analysis.runs}


def test_nested_fields_become_one_level() -> None:
    assert flat({"point": {"lr": 0.1, "eps": 1e-8}, "betas": [0.9, 0.99], "name": "a"}) == {
        "point_lr": 0.1,
        "point_eps": 1e-8,
        "betas": "[0.9, 0.99]",
        "name": "a",
    }


def test_all_runs_have_the_same_columns(analysis: Analysis) -> None:
    table = runs_table(analysis.runs)
    assert {tuple(row) for row in table} == {tuple(table[0])}
    assert {row["optimizer"] for row in table if row["keywords_weight_decay"] is None} == {"momentum", "sgd"}


def test_csv_holds_every_run_and_point(command: Command, study: Path, analysis: Analysis, tmp_path: Path) -> None:
    done = command("export", study, "--to", "csv", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, f"{len(analysis.runs)} runs: {tmp_path / 'out'}\n")
    runs = list(csv.DictReader((tmp_path / "out" / "runs.csv").read_text().splitlines()))
    known = stored(analysis)
    assert [row["run"] for row in runs] == list(known)
    for row in runs:
        run = known[row["run"]]
        assert (row["optimizer"], row["state"], int(row["seed"])) == (
            run.config.optimizer,
            run.result.state,
            run.config.seed,
        )
        assert float(row["point_lr"]) == run.config.point["lr"]
        assert row["value"] == ("" if run.result.value is None else repr(run.result.value))
    points = list(csv.DictReader((tmp_path / "out" / "curves.csv").read_text().splitlines()))
    assert len(points) == sum(len(run.curve) for run in known.values())
    losses = [point.validation_loss for run in known.values() for point in run.curve]
    assert [float(row["validation_loss"]) for row in points] == losses
    assert (study / "runs.csv").read_text() == (tmp_path / "out" / "runs.csv").read_text()


def test_parquet_holds_what_csv_holds(command: Command, study: Path, analysis: Analysis, tmp_path: Path) -> None:
    read_table = pytest.importorskip("pyarrow.parquet").read_table
    command("export", study, "--to", "parquet", "-o", tmp_path)
    runs = read_table(tmp_path / "runs.parquet").to_pylist()
    known = stored(analysis)
    assert [(row["run"], row["value"], row["point_lr"]) for row in runs] == [
        (path, run.result.value, run.config.point["lr"]) for path, run in known.items()
    ]
    curves = read_table(tmp_path / "curves.parquet")
    assert curves.column("step").to_pylist() == [point.step for run in known.values() for point in run.curve]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.parquet", "runs.parquet"]


def events(folder: Path) -> list[Any]:
    """The events of a run's one file, which is a row of length, checksum, message, checksum."""
    event = pytest.importorskip("tensorboardX.proto.event_pb2").Event
    (path,) = folder.glob("events.out.*")
    content, found = path.read_bytes(), list[Any]()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        found.append(event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_tensorboard_has_a_folder_a_run_with_its_curve(
    command: Command, study: Path, analysis: Analysis, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboardX")
    command("export", study, "--to", "tensorboard", "-o", tmp_path / "events")
    for path, run in list(stored(analysis).items())[::6]:
        written = events(tmp_path / "events" / path)
        curve = {
            event.step: value.simple_value
            for event in written
            for value in event.summary.value
            if value.tag == "validation_loss"
        }
        assert curve == pytest.approx({point.step: point.validation_loss for point in run.curve}, rel=1e-6)
        tags = [value.tag for event in written for value in event.summary.value]
        assert "result/value" in tags
        assert "_hparams_/session_start_info" in tags
    again = command("export", study, "--to", "tensorboard", "-o", tmp_path / "events")
    assert again.returncode == 2
    assert "is not empty" in again.stderr


class Logged:
    """What stands in for a W&B run."""

    def __init__(self, **options: Any):
        self.options, self.rows, self.summary, self.finished = options, list[Any](), dict[str, Any](), False

    def log(self, row: dict[str, float], step: int) -> None:
        self.rows.append((step, row))

    def finish(self) -> None:
        self.finished = True


def test_wandb_is_offline_unless_the_user_says_otherwise(
    command: Command, study: Path, analysis: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Logged] = []

    def init(**options: Any) -> Logged:
        made.append(Logged(**options))
        return made[-1]

    fake = SimpleNamespace(init=init, Settings=dict, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "wandb", fake)  # pyright: ignore[reportArgumentType]
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert command("export", study, "--to", "wandb", "-o", tmp_path / "offline").returncode == 0
    for run, logged in zip(analysis.runs, made, strict=True):
        assert logged.options["mode"] == "offline"
        assert logged.options["name"] == run.config.path
        assert logged.options["config"]["point_lr"] == run.config.point["lr"]
        assert [step for step, _ in logged.rows] == [point.step for point in run.curve]
        assert [row["validation_loss"] for _, row in logged.rows] == [point.validation_loss for point in run.curve]
        assert logged.summary["state"] == run.result.state
        assert logged.finished
    monkeypatch.setenv("WANDB_MODE", "online")
    command("export", study, "--to", "wandb", "-o", tmp_path / "online")
    assert made[-1].options["mode"] == "online"


def test_mlflow_is_given_every_run(
    command: Command, study: Path, analysis: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in: mlflow itself is a large extra, and the test below is skipped without it."""
    logged: dict[str, tuple[dict[str, str], list[float]]] = {}
    client = SimpleNamespace(
        get_experiment_by_name=lambda name: None,
        create_experiment=lambda name, place: name,
        create_run=lambda experiment, run_name: SimpleNamespace(info=SimpleNamespace(run_id=run_name)),
        log_batch=lambda run, metrics, parameters, tags: logged.update(
            {run: (dict(parameters), [value for name, value, _, _ in metrics if name == "validation_loss"])}
        ),
        set_terminated=lambda run, state: None,
    )
    parts = {
        "mlflow": SimpleNamespace(__spec__=SimpleNamespace()),
        "mlflow.entities": SimpleNamespace(
            Metric=lambda *metric: metric, Param=lambda *pair: pair, RunTag=lambda *pair: pair
        ),
        "mlflow.tracking": SimpleNamespace(MlflowClient=lambda tracking_uri: client),
    }
    for name, part in parts.items():
        monkeypatch.setitem(sys.modules, name, part)  # pyright: ignore[reportArgumentType]
    done = command("export", study, "--to", "mlflow", "-o", tmp_path / "mlflow")
    assert done.returncode == 0, done.stderr
    assert list(logged) == [run.config.path for run in analysis.runs]
    for run in analysis.runs:
        parameters, losses = logged[run.config.path]
        assert parameters["point_lr"] == str(run.config.point["lr"])
        assert losses == [point.validation_loss for point in run.curve]


def test_mlflow_keeps_a_file_of_its_own(command: Command, study: Path, analysis: Analysis, tmp_path: Path) -> None:
    pytest.importorskip("mlflow.tracking")
    from mlflow.tracking import MlflowClient  # pyright: ignore

    done = command("export", study, "--to", "mlflow", "-o", tmp_path / "mlflow")
    assert done.returncode == 0, done.stderr
    client: Any = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(f"thalweg {analysis.runs[0].config.study}")
    written = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    known = stored(analysis)
    assert set(written) == set(known)
    path, run = next(iter(known.items()))
    assert float(written[path].data.params["point_lr"]) == run.config.point["lr"]
    history = client.get_metric_history(written[path].info.run_id, "validation_loss")
    assert {(point.step, point.value) for point in history} == {
        (point.step, point.validation_loss) for point in run.curve
    }


@pytest.mark.parametrize(
    ("form", "module", "extra"),
    [
        ("parquet", "pyarrow", "export"),
        ("tensorboard", "tensorboardX", "export"),
        ("wandb", "wandb", "wandb"),
        ("mlflow", "mlflow", "mlflow"),
    ],
)
def test_a_missing_library_is_one_line(
    command: Command, study: Path, monkeypatch: pytest.MonkeyPatch, form: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # pyright: ignore[reportArgumentType]
    done = command("export", study, "--to", form)
    assert done.returncode == 2
    assert done.stderr == f'thalweg: {module} is not installed; --to {form} needs: pip install "thalweg[{extra}]"\n'


def test_bad_requests_are_refused(command: Command, study: Path, tmp_path: Path) -> None:
    assert "--to 'cvs' is unknown. Did you mean csv" in command("export", study, "--to", "cvs").stderr
    assert "holds no study" in command("export", tmp_path, "--to", "csv").stderr
    assert "cannot be written" in command("export", study, "--to", "csv", "-o", "/proc/nowhere").stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(study / "contract.json", empty)
    assert "has no finished run" in command("export", empty, "--to", "csv").stderr


def test_json_says_where(command: Command, study: Path, analysis: Analysis, tmp_path: Path) -> None:
    done = command("export", study, "--to", "csv", "-o", tmp_path, "--json")
    assert json.loads(done.stdout) == {"runs": len(analysis.runs), "folder": str(tmp_path)}
