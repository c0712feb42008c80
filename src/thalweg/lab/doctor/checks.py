"""What the doctor looks at: each a function that gives findings, and changes nothing."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from thalweg.lab.device import VARIABLE as DEVICE
from thalweg.lab.device import described
from thalweg.lab.environment import environment
from thalweg.lab.errors import UserError
from thalweg.lab.execution.workers import available_cores
from thalweg.lab.listing import LISTINGS
from thalweg.lab.tasks import EMBEDDED
from thalweg.lab.tasks.files import VARIABLE as DATA
from thalweg.lab.tasks.files import data_folder
from thalweg.lab.verify import record

State = Literal["ok", "absent", "broken"]
"""Absent is what the lab does without; broken what it, or what was asked of it, needs."""

ROOM = 1 << 30
"""Bytes free under which a study is likely to fill the disk."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        what: what was looked at.
        found: what there is.
        remedy: what to do; empty if nothing has to be done.
    """

    what: str
    state: State
    found: str
    remedy: str = ""


def versions() -> Iterator[Finding]:
    """Of the program, its checkout, torch and Python."""
    here = environment()
    commit = f", commit {here.git}" if here.git else ", no git checkout"
    yield Finding("thalweg", "ok", f"{here.thalweg}{commit}")
    yield Finding("torch", "ok", here.torch)
    yield Finding("Python", "ok", f"{here.python} on {here.system}")


def accelerator() -> Iterator[Finding]:
    """What runs train on. A device that is asked for and not there is forgotten: the other checks look at the machine."""
    try:
        name = described()
    except UserError as error:
        del os.environ[DEVICE]
        yield Finding("accelerator", "broken", str(error), f"unset {DEVICE}, or name a device that is there")
    else:
        yield Finding("accelerator", "ok" if name else "absent", name or "none: runs train on the processor")


def machine() -> Iterator[Finding]:
    """Cores and memory."""
    here = environment()
    yield Finding("processor", "ok", f"{here.processor}, {available_cores()} of {here.cores} cores usable")
    yield Finding("memory", "ok", _memory())


def _memory() -> str:
    known = [name for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES") if name in os.sysconf_names]
    sizes = [os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") / 2**30 for name in known]
    return ", ".join(f"{size:.1f} GiB{word}" for size, word in zip(sizes, ("", " free"), strict=False)) or "not known"


def compiler() -> Iterator[Finding]:
    """A C++ compiler, which `torch.compile` needs on a processor."""
    names = [name for name in (os.environ.get("CXX"), "g++", "clang++", "cl") if name]
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found:
        yield Finding("C++ compiler", "ok", found)
    else:
        yield Finding(
            "C++ compiler",
            "absent",
            f"none of {', '.join(names)}",
            "install one for compiled steps; others run without",
        )


def compiled() -> Iterator[Finding]:
    """Whether `torch.compile` works, by compiling a function; some seconds."""

    def line(x: Tensor) -> Tensor:
        return 2 * x + 1

    try:
        result = cast(Any, torch.compile)(line, fullgraph=True)(torch.ones(8))
    except Exception as error:  # whatever a compiler on this machine may raise
        cause = " ".join(str(error).strip().splitlines()[:2])  # the second says what the first announces
        yield Finding("torch.compile", "absent", cause, "steps run as foreach; see torch's documentation of the error")
        return
    right = torch.equal(result, torch.full((8,), 3.0))
    yield Finding("torch.compile", "ok" if right else "broken", "works" if right else "gives wrong numbers")


def data() -> Iterator[Finding]:
    """The data folder, and which tasks have what they need; data sets are looked for, or read where that is how they are
    found."""
    folder = data_folder()
    if folder is None:
        yield Finding("data folder", "absent", f"{DATA} is not set", f"for tasks on files: --data DIR, or set {DATA}")
    elif not folder.is_dir():
        yield Finding("data folder", "broken", f"{folder} is no folder", f"correct --data or {DATA}")
    else:
        yield Finding("data folder", "ok", str(folder))
    for row in LISTINGS["tasks"]():
        name = row["name"]
        if row["files"] != "not usable":
            yield Finding(f"task {name}", "ok", row["files"])
        elif name in EMBEDDED:
            yield Finding(f"task {name}", "broken", row["what"], 'pip install "thalweg[lab]"')
        elif folder is not None:
            yield Finding(f"task {name}", "absent", row["what"])


def folders() -> Iterator[Finding]:
    """Where studies and the program's state are written, and the room there."""
    studies = Path("studies")
    free = shutil.disk_usage(_there(studies)).free
    said = f"{studies.absolute()}, {free / 2**30:.1f} GiB free"
    if not os.access(_there(studies), os.W_OK):
        yield Finding("studies", "broken", f"{said}, not writable", "work in another folder, or give --store DIR")
    elif free < ROOM:
        yield Finding("studies", "broken", said, "make room, or give --store DIR on another disk")
    else:
        yield Finding("studies", "ok", said)
    state = record.state_folder()
    if os.access(_there(state), os.W_OK):
        yield Finding("state folder", "ok", str(state))
    else:
        yield Finding("state folder", "broken", f"{state} is not writable", "make it writable, or set XDG_STATE_HOME")


def _there(path: Path) -> Path:
    """The nearest folder above that exists: what decides whether the path can be made."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def references() -> Iterator[Finding]:
    """What the last full `thalweg verify` came to."""
    last = record.latest()
    if last is None:
        yield Finding("references", "absent", "never verified here", "thalweg verify: minutes")
    elif last["passed"]:
        yield Finding("references", "ok", f"{last['measured']} reproduced, {last['date']}")
    else:
        failed = ", ".join(last["failed"])
        yield Finding(
            "references", "broken", f"not reproduced, {last['date']}: {failed}", "thalweg verify, and see which"
        )
