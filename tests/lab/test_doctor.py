"""`thalweg doctor`: what it finds is there, and what is broken is said with what to do."""

import json
import os
import shutil
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import handmade
import pytest
import torch
from commands import Command
from packaging.requirements import Requirement

import thalweg
from thalweg.lab import listing
from thalweg.lab.device import VARIABLE as DEVICE
from thalweg.lab.doctor import checks
from thalweg.lab.doctor.checks import Finding
from thalweg.lab.doctor.extras import brought, finding
from thalweg.lab.tasks.files import VARIABLE as DATA
from thalweg.lab.verify import record


@pytest.fixture(autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.delenv(DATA, raising=False)


def by_name(findings: Any) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_a_sound_machine_is_shown_and_nothing_is_changed(command: Command, tmp_path: Path) -> None:
    done = command("doctor", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["broken"] == 0
    found = {row["what"]: row for row in printed["findings"]}
    assert found["thalweg"]["found"].startswith(thalweg.__version__)
    assert found["torch"]["found"] == torch.__version__
    assert found["task digits-mlp"]["state"] == "ok"
    assert found["data folder"]["state"] == "absent"
    assert "task cifar10" not in found, "without a folder there is nothing to look for"
    assert found["references"]["state"] == "absent"
    assert list(tmp_path.iterdir()) == []
    assert not record.state_folder().exists()


def test_people_see_the_same_with_what_to_do(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(listing.LISTINGS, "tasks", list)
    monkeypatch.setenv(DATA, str(tmp_path / "none"))
    done = command("doctor")
    assert done.returncode == 1
    assert f"{tmp_path}/none is no folder" in " ".join(done.stdout.split())
    assert f"→ correct --data or {DATA}" in done.stdout
    assert "\x1b" not in done.stdout


def test_files_are_found_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handmade.ptb(tmp_path)
    monkeypatch.setenv(DATA, str(tmp_path))
    found = by_name(checks.data())
    assert found["data folder"] == Finding("data folder", "ok", str(tmp_path))
    assert found["task ptb"].state == "ok"
    assert found["task cifar10"].state == "absent"
    assert "cifar-10-batches-py" in found["task cifar10"].found


def test_a_task_that_needs_no_files_and_cannot_be_made_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"name": "digits-mlp", "what": "no library", "files": "not usable"}
    monkeypatch.setitem(listing.LISTINGS, "tasks", lambda: [row])
    assert by_name(checks.data())["task digits-mlp"].state == "broken"


def test_a_device_that_is_not_there_is_broken_and_the_rest_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEVICE, "quantum")
    (found,) = checks.accelerator()
    assert found.state == "broken"
    assert "quantum" in found.found
    assert DEVICE not in os.environ


def test_extras_are_read_from_the_packages_own_metadata() -> None:
    named = [
        Requirement(text)
        for text in (
            "torch>=2.10",
            'numpy>=1.26; extra == "lab"',
            'numpy>=1.26; extra == "hub"',
            'no-such-library>=3; extra == "hub"',
            'scipy>=999; extra == "late"',
        )
    ]
    assert [one.name for one in brought(named, "hub")] == ["no-such-library"]
    assert finding("lab", brought(named, "lab")) == Finding("extra lab", "ok", f"numpy {metadata.version('numpy')}")
    absent = finding("hub", brought(named, "hub"))
    assert absent == Finding("extra hub", "absent", "no-such-library is not installed", 'pip install "thalweg[hub]"')
    late = finding("late", brought(named, "late"))
    assert late.found == f"scipy {metadata.version('scipy')} is not >=999"
    assert finding("lab", brought(named, "late")).state == "broken"


def test_a_full_disk_or_a_folder_that_cannot_be_written_is_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {finding.state for finding in checks.folders()} == {"ok"}
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))  # pyright: ignore
        assert by_name(checks.folders())["studies"].state == "broken"
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # pyright: ignore
    assert {finding.state for finding in checks.folders()} == {"broken"}


def test_without_a_compiler_steps_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert next(iter(checks.compiler())).state == "absent"

    def unable(function: Any, **options: Any) -> Any:
        raise RuntimeError("InvalidCxxCompiler: none found\nin PATH\nmore")

    monkeypatch.setattr(torch, "compile", unable)
    (found,) = checks.compiled()
    assert (found.state, found.found) == ("absent", "InvalidCxxCompiler: none found in PATH")


@pytest.mark.parametrize(
    ("failed", "state", "words"), [([], "ok", "3 reproduced"), (["MLP", "CNN"], "broken", "MLP, CNN")]
)
def test_the_last_verification_is_told(failed: list[str], state: str, words: str) -> None:
    record.path().parent.mkdir(parents=True)
    last = record.Record(passed=not failed, date="2026-11-21", versions={}, measured=3, failed=failed, not_measured=[])
    record.path().write_text(last.model_dump_json())
    (found,) = checks.references()
    assert found.state == state
    assert words in found.found
