"""The command line, from outside: what it prints, refuses and returns."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SMALL, Command, environment

import thalweg
from thalweg.lab.tasks import TASKS


def test_version_and_help_are_short(command: Command) -> None:
    assert command("--version").stdout == f"thalweg {thalweg.__version__}\n"
    helped = command("--help")
    assert helped.returncode == 0
    for name in ("compare", "report", "status", "list", "bench"):
        assert name in helped.stdout


def test_list_shows_what_there_is(command: Command) -> None:
    listed = json.loads(command("list", "--json").stdout)
    assert [row["name"] for row in listed["tasks"]] == TASKS
    assert {row["name"] for row in listed["optimizers"]} >= {"sgd", "momentum", "nesterov", "adamw", "lbfgs", "dcao"}
    assert [row["name"] for row in listed["suites"]] == ["smoke", "quick", "standard", "hands-off", "robustness"]
    assert "docs-gpt" in command("list", "tasks").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smok"], ["task or suite 'smok' is unknown", "Did you mean smoke"]),
        (["digits-mlpp"], ["'digits-mlpp'", "Did you mean digits-mlp"]),
        (["smoke", "docs-gpt"], ["suite 'smoke' cannot be combined"]),
        (["docs-gpt", "docs-gpt"], ["'docs-gpt' is given twice"]),
        (["docs-gpt", "-o", "adamv"], ["optimizer 'adamv' is unknown", "Did you mean adam"]),
        (["docs-gpt", "-o", "adamw,,sgd"], ["--optimizers 'adamw,,sgd' has an empty name"]),
        (["docs-gpt", "-o", ""], ["--optimizers '' has an empty name"]),
        (["docs-gpt", "-o", "sgd,sgd"], ["'sgd' twice"]),
        (["docs-gpt", "--trials", "0"], ["--trials is 0", "between 1 and"]),
        (["docs-gpt", "--seeds", "-3"], ["--seeds is -3", "between 1 and"]),
        (["docs-gpt", "--jobs", "0"], ["--jobs is 0"]),
        (["docs-gpt", "--trials", "many"], ["--trials is 'many'", "whole number"]),
        (["docs-gpt", "--store", "/proc/nowhere"], ["--store /proc/nowhere cannot be written"]),
    ],
)
def test_a_bad_request_is_one_clear_message_and_changes_nothing(
    command: Command, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    done = command("compare", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["report", "status"])
def test_a_folder_without_a_study_is_refused(command: Command, tmp_path: Path, verb: str) -> None:
    done = command(verb, tmp_path / "none")
    assert done.returncode == 2
    assert "holds no study" in done.stderr


@pytest.mark.parametrize("file", ["result.json", "metrics.jsonl", "env.json", "contract.json"])
def test_a_damaged_file_is_named_with_what_to_do(command: Command, study: Path, tmp_path: Path, file: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    damaged = sorted(copy.rglob(file))[0]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    done = command("report", copy)
    assert done.returncode == 2
    assert f"{damaged} cannot be understood" in done.stderr
    assert ("give another folder" if file == "contract.json" else "remove the run's folder") in done.stderr


def test_a_folder_with_other_things_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    done = command("compare", *SMALL, "--store", tmp_path)
    assert done.returncode == 2
    assert "is not empty and holds no study" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [("--trials", 2, "trials"), ("--seeds", 2, "final_seeds"), ("-o", "sgd", "optimizers")],
)
def test_a_smaller_contract_is_refused_with_the_field_named(
    command: Command, study: Path, option: str, value: object, field: str
) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in study.rglob("*"))
    arguments = dict(zip(SMALL[1::2], SMALL[2::2], strict=True)) | {option: value}
    done = command("compare", SMALL[0], *(word for pair in arguments.items() for word in pair), "--store", study)
    assert done.returncode == 2
    assert f"its contract has {field} = " in done.stderr
    assert sorted((path, path.stat().st_mtime_ns) for path in study.rglob("*")) == before


def test_a_dry_run_prints_the_contract_and_does_nothing(command: Command, tmp_path: Path) -> None:
    done = command("compare", *SMALL, "--dry-run")
    assert done.returncode == 0
    for word in ("Contract ", "24 runs", "lr 0.0001 … 0.316", "warm-up, cosine", "warning: 3 final seeds", "about"):
        assert word in done.stdout
    as_data = json.loads(command("compare", *SMALL, "--dry-run", "--json").stdout)
    assert as_data["hash"] in done.stdout
    assert as_data["contract"]["trials"] == 3
    assert list(tmp_path.iterdir()) == []


def test_a_finished_comparison_shows_the_verdict_in_plain_lines(study: Path) -> None:
    out = (study.parent / "stdout.txt").read_text(encoding="utf-8")
    assert "24/24 runs" in out
    assert "Verdict (against tuned adamw)" in out
    assert "are not resolved (80 % power)" in out
    assert f"Report: {study}/report.html" in out
    assert "\x1b" not in out


def test_the_same_contract_again_does_no_run_twice(command: Command, study: Path) -> None:
    results = {path: path.stat().st_mtime_ns for path in study.rglob("result.json")}
    done = command("compare", *SMALL, "--store", study, "--json")
    assert done.returncode == 0
    outcome = json.loads(done.stdout)["outcome"]
    assert outcome["complete"]
    assert {row["optimizer"] for row in outcome["outcomes"]} == {"adamw", "momentum", "sgd"}
    assert {path: path.stat().st_mtime_ns for path in study.rglob("result.json")} == results


def test_quiet_prints_nothing(command: Command, study: Path) -> None:
    done = command("compare", *SMALL, "--store", study, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_status_counts_the_runs(command: Command, study: Path) -> None:
    assert "24 of 24 runs done" in command("status", study).stdout
    assert json.loads(command("status", study, "--json").stdout)["runs"] == {"done": 24, "total": 24}


def test_a_broken_run_is_named_and_fails_the_command(command: Command, study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    broken = sorted(copy.rglob("final-*/result.json"))[0]
    broken.write_text('{"state": "crashed", "message": "Traceback\\nValueError: bad luck"}', encoding="utf-8")
    done = command("compare", *SMALL, "--store", copy)
    assert done.returncode == 1
    assert "1 run broke" in done.stderr
    assert "ValueError: bad luck" in done.stderr
    assert "(1 failed)" in done.stdout


def test_without_the_extra_one_line_says_what_to_install() -> None:
    script = "import sys; sys.modules['typer'] = None; from thalweg.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == 'thalweg: typer is not installed; the command needs: pip install "thalweg[lab]"\n'
