"""The command `thalweg conformance`, and that a broken promise shows."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from thalweg.conformance import SPECS
from thalweg.conformance import table as tables
from thalweg.conformance.checks import CHECKS, Case
from thalweg.conformance.table import COLUMNS, RULES, Cell, Row
from thalweg.lab import conformance
from thalweg.lab.cli import app
from thalweg.lab.errors import UserError

ADAM = next(spec for spec in SPECS if spec.name == "adam")
GOOD = Cell(1e-9, 1e-6, "adam")


def row(rule: str = "adam", **cells: Cell) -> Row:
    return Row(rule, "each", "float32", 2, ("torch Adam",), dict.fromkeys(COLUMNS, GOOD) | cells)


def run(monkeypatch: pytest.MonkeyPatch, rows: list[Row], *arguments: str) -> Any:
    found: dict[str, list[Row]] = {}
    for r in rows:
        found.setdefault(r.rule, []).append(r)
    monkeypatch.setattr(conformance, "rows", lambda rules, device, jobs: iter(found.values()))
    return CliRunner().invoke(app, ["conformance", "--rules", ",".join(found), *arguments])


def test_the_table_is_shown_and_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lacking = Cell(math.nan, 1e-6, "adam", "no C++ compiler was found", skipped=True)
    rows = [row("sgd"), row("adam", oracle=lacking)]
    result = run(monkeypatch, rows, "-o", str(tmp_path / "table.md"))
    assert result.exit_code == 0, result.output
    assert "✓ 1e-09" in result.stdout
    page = (tmp_path / "table.md").read_text()
    assert page.index("## sgd") < page.index("## adam")
    assert "– not checked here: no C++ compiler was found" in page
    assert "| each | float32 | 2 | – |" in page


def test_a_broken_promise_is_named_and_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(), row(resume=Cell(0.5, 0.0, "adam-amsgrad=True"), DCP=Cell(math.nan, 0.0, "adam", "KeyError: 0"))]
    result = run(monkeypatch, rows, "--json")
    assert result.exit_code == 1
    assert "adam each float32, resume: adam-amsgrad=True is off by 5.0e-01; allowed is 0e+00" in result.stderr
    assert "DCP: KeyError: 0" in result.stderr
    data = json.loads(result.stdout)
    assert not data["passed"]
    assert [r["passed"] for r in data["rows"]] == [True, False]
    assert data["rows"][1]["checks"]["DCP"]["error"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rules", "adan"], "--rules 'adan' is unknown. Did you mean"),
        (["--device", "tpu"], "--device 'tpu' is unknown"),
        (["--jobs", "0"], "--jobs is 0"),
        (["-o", "table.txt"], "must end in .md or .json"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["conformance", *arguments])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


def test_every_rule_of_ours_is_in_it() -> None:
    assert {spec.name for spec in SPECS} == set(RULES)


def test_a_wrong_rule_is_found() -> None:
    """Every check can fail: an oracle that decays, state that is lost or mixed up, a strategy that differs."""
    case = Case(replace(ADAM, theirs={"weight_decay": 0.1}), "foreach", torch.float64)
    cell = tables._measured("oracle", CHECKS["oracle"], case)
    assert not cell.passed
    assert cell.error > 1e-6


@pytest.mark.parametrize("check", ["resume", "weights_only", "DCP", "names reordered"])
def test_a_lossy_checkpoint_is_found(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from thalweg.core import checkpoint

    taken = checkpoint.fitted

    def lossy(*args: Any) -> dict[str, Any]:
        fitted = taken(*args)
        for own in fitted["state"].values():
            own["exp_avg"] = own["exp_avg"].bfloat16()
        return fitted

    monkeypatch.setattr(checkpoint, "fitted", lossy)
    case = Case(ADAM, "foreach", torch.float32, shapes=((8, 5),))
    assert not tables._measured(check, CHECKS[check], case).passed


def test_an_exception_and_a_nan_are_failures() -> None:
    def broken(case: Case) -> float:
        raise KeyError("exp_avg")

    case = Case(ADAM, "each", torch.float32)
    assert tables._measured("resume", broken, case).problem == "KeyError: 'exp_avg'"
    assert not tables._measured("resume", lambda case: math.nan, case).passed
    assert not tables._worst([GOOD, Cell(math.nan, 1e-6, "adam"), GOOD]).passed


@pytest.mark.slow  # the documentation is built from two rules in every run of the checks
def test_one_rule_from_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiled rows: the documentation is built from those of all rules."""
    monkeypatch.setattr(tables, "STRATEGIES", ("each", "foreach"))
    rows = tables.examine("sgd")
    assert len(rows) == 8
    assert all(r.passed and not any(c.skipped for c in r.cells.values()) for r in rows), rows
    forms = {"float64": sum(s.name == "sgd" for s in SPECS), "bfloat16": 1}
    assert forms["float64"] > 1
    assert all(r.forms == forms["bfloat16" if r.dtype.endswith("16") else "float64"] for r in rows)
