"""The report's file, without a browser."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import SMALL

from thalweg.lab.analysis import Analysis
from thalweg.lab.lights import lights
from thalweg.lab.report import write_report
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


def test_names_are_escaped_wherever_they_are_shown(study: Path, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    (copy / "runs" / "digits-mlp").rename(copy / "runs" / "task")
    contract = json.loads((copy / "contract.json").read_text())
    contract["tasks"][0] |= {"name": "task", "summary": hostile, "metric": hostile, "unit": hostile}
    contract["suite"] = hostile
    (copy / "contract.json").write_text(json.dumps(contract))
    html = write_report(Analysis.of(Store.open(copy))).read_text(encoding="utf-8")
    assert hostile not in html
    assert "&lt;script&gt;alert(1)" in html


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
