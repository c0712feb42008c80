"""The report's file, without a browser."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import SMALL

from thalweg.lab.analysis import Analysis
from thalweg.lab.contract import Contract, EntryTerms, TaskTerms
from thalweg.lab.lights import lights
from thalweg.lab.report import write_report
from thalweg.lab.space import ENTRIES
from thalweg.lab.store import Store


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="module")
def html(study: Path) -> str:
    return (study / "report.html").read_text(encoding="utf-8")


def test_it_is_one_file_with_plotly_once_and_no_address(html: str) -> None:
    assert html.count("plotly.js v") == 1
    outside = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)""", outside)
    assert "@import" not in outside
    assert len(html) < 8e6


def test_its_figures_show_the_stored_runs(html: str, analysis: Analysis) -> None:
    (task,) = data_of(html)["tasks"]
    for shown in task["finals"]:
        cell = analysis.cell(task["name"], shown["optimizer"])
        assert shown["value"] == pytest.approx([run.result.value for run in cell.finals], rel=1e-4)
        assert shown["median"] == pytest.approx(np.median(cell.oriented), rel=1e-4)
    for shown in task["curves"]:
        cell = analysis.cell(task["name"], shown["optimizer"])
        assert [seed["seed"] for seed in shown["seeds"]] == analysis.store.contract.final_seeds
        assert shown["seeds"][0]["validation"][-1] == pytest.approx(cell.finals[0].result.value, rel=1e-4)
    for shown in task["sensitivity"]:
        assert len(shown["lr"]) == analysis.store.contract.trials
        assert shown["lr"] == sorted(shown["lr"])
        assert shown["selected"] in shown["lr"]


def test_it_says_how_to_reproduce(html: str, analysis: Analysis) -> None:
    contract = analysis.store.contract
    assert "thalweg compare digits-mlp -o adamw,momentum,sgd --trials 3 --seeds 3" in html
    assert contract.hash in html
    assert contract.tasks[0].data_hash in html
    assert analysis.store.environments()[0].torch in html
    assert SMALL[0] in html


def test_an_unfinished_study_has_a_report_that_says_so(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    for folder in [*copy.rglob("sgd/final-*"), *copy.rglob("adamw/tuning-*")]:
        shutil.rmtree(folder)
    analysis = Analysis.of(Store.open(copy))
    assert lights(analysis)[0].title == "Unfinished"
    assert "runs have no result yet" in write_report(analysis).read_text(encoding="utf-8")


def test_an_empty_study_has_a_report(study: Path, tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_bytes((study / "contract.json").read_bytes())
    (tmp_path / "runs").mkdir()
    assert write_report(Analysis.of(Store.open(tmp_path))).exists()


HOSTILE = '<script>alert(1)</script>|[x](javascript:alert(1))"&lt;'


def test_names_are_escaped_wherever_they_are_shown(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    (copy / "runs" / "digits-mlp" / "sgd").rename(copy / "runs" / "digits-mlp" / "hostile")
    (copy / "runs" / "digits-mlp").rename(copy / "runs" / "task")
    contract = json.loads((copy / "contract.json").read_text())
    contract["tasks"][0] |= {"name": "task", "summary": HOSTILE, "metric": HOSTILE, "unit": HOSTILE}
    contract["suite"] = HOSTILE
    contract["optimizers"][2]["entry"] |= {"name": "hostile", "fixed": {HOSTILE: HOSTILE}}
    (copy / "contract.json").write_text(json.dumps(contract))
    html = write_report(Analysis.of(Store.open(copy))).read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    text = (copy / "report.md").read_text(encoding="utf-8")
    assert "<" not in text
    assert "](" not in text


def test_an_optimizer_and_a_task_named_like_markup_are_escaped(tmp_path: Path) -> None:
    # No folder can have such a name on disk, but a contract can: what no run has is shown too.
    draft = contract_of(["adamw", HOSTILE], HOSTILE)
    html = write_report(Analysis.of(Store.create(tmp_path / "study", draft))).read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert html.count("</script>") == 4  # the page's own
    assert "<" not in (tmp_path / "study" / "report.md").read_text(encoding="utf-8")


def test_one_of_a_kind_is_said_in_the_singular(tmp_path: Path) -> None:
    html = write_report(Analysis.of(Store.create(tmp_path / "study", contract_of(["adamw"], "t")))).read_text("utf-8")
    page = " ".join(re.sub(r"<(script|style)>.*?</\1>", "", html, flags=re.S).split())
    assert "1 optimizer on 1 task · 1 trial each, then 1 fresh seed ·" in page
    assert not re.search(r"\b1 (optimizers|tasks|trials|(fresh |final )?seeds)\b", page)
    text = (tmp_path / "study" / "report.md").read_text("utf-8")
    assert "1 trial on seed 0, then the winner by validation again on 1 fresh seed." in text


def contract_of(names: list[str], task: str) -> Contract:
    terms = TaskTerms(
        name=task, summary=task, data_hash=task, parameters=1, batch_size=1, budget=100, metric=task, unit=task,
        better="max", margin=0.5, targets=(1.0,),
    )  # fmt: skip
    entries = [
        EntryTerms(entry=ENTRIES["adamw"].model_copy(update={"name": name}), points=[{"lr": 0.1}]) for name in names
    ]
    return Contract(suite=task, tasks=[terms], optimizers=entries, trials=1, tuning_seeds=[0], final_seeds=[1000])


def test_every_run_and_every_point_is_written_as_csv(study: Path, analysis: Analysis) -> None:
    with (study / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(analysis.runs)
    for row, run in zip(rows, analysis.runs, strict=True):
        assert (row["optimizer"], row["phase"], int(row["seed"])) == (
            run.config.optimizer,
            run.config.phase,
            run.config.seed,
        )
        assert (float(row["value"]) if row["value"] else None) == run.result.value
    with (study / "curves.csv").open(encoding="utf-8", newline="") as file:
        points = list(csv.DictReader(file))
    shown = [run for cell in analysis.cells for run in [*cell.finals, *([cell.sharpness] if cell.sharpness else [])]]
    assert [float(row["validation"]) for row in points] == [point.validation for run in shown for point in run.curve]


def test_the_markdown_says_what_the_page_says(study: Path, analysis: Analysis) -> None:
    text = (study / "report.md").read_text(encoding="utf-8")
    assert "thalweg compare digits-mlp -o adamw,momentum,sgd --trials 3 --seeds 3" in text
    assert analysis.store.contract.hash in text
    for light in lights(analysis):
        assert light.title in text
    rows = [line for line in text.splitlines() if line.startswith("| momentum |")]
    assert f"{analysis.cell('digits-mlp', 'momentum').median.middle:.4g}" in rows[0]


def test_failures_count_in_every_number(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    for folder in sorted(copy.rglob("adamw/final-*"))[:2]:
        (folder / "result.json").write_text('{"state": "diverged"}')
    analysis = Analysis.of(Store.open(copy))
    cell = analysis.cell("digits-mlp", "adamw")
    assert cell.median is not None
    assert cell.median.middle == -np.inf
    assert analysis.of_task("digits-mlp")[-1] is cell
    comparison = analysis.comparison(cell, "momentum")
    assert comparison is not None
    assert comparison.verdict != "better"
    html = write_report(analysis).read_text(encoding="utf-8")
    assert "2 failed" in html
    assert data_of(html)["tasks"][0]["finals"][-1]["value"].count(None) == 2


def test_lights_name_what_is_wrong(analysis: Analysis) -> None:
    found = {light.title: light.level for light in lights(analysis)}
    assert found["Few seeds"] == "amber"
    assert found["Finished"] == found["Equal budget"] == found["One environment"] == "green"
