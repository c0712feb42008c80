"""Where a run was done: versions, the package's git state, the machine's kind. No host or user name is recorded."""

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

from thalweg._version import __version__
from thalweg.lab.device import described
from thalweg.lab.space import Frozen
from thalweg.lab.words import amount


class Environment(Frozen):
    """What a result may depend on besides the contract."""

    thalweg: str
    git: str
    """Commit of the package's checkout, with ``+changes`` when files differ from it; empty when installed otherwise."""
    torch: str
    python: str
    system: str
    processor: str
    cores: int
    threads: int
    """Torch threads of the process."""
    accelerator: str = ""
    """What runs train on if not on the processor."""

    @property
    def said(self) -> str:
        """Everything in one line."""
        commit = f" (commit {self.git})" if self.git else ""
        return (
            f"thalweg {self.thalweg}{commit} · torch {self.torch} · Python {self.python} · {self.system} ·"
            f" {self.accelerator or self.processor}, {self.cores} cores, {amount(self.threads, 'thread')} a run"
        )


@cache
def environment() -> Environment:
    """Describe this process's environment."""
    return Environment(
        thalweg=__version__,
        git=_git_state(),
        torch=torch.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        accelerator=described(),
    )


def _git_state() -> str:
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy may lie inside somebody else's repository: only a tracked file speaks for ours.
    if not git("ls-files", "--error-unmatch", Path(__file__).name):
        return ""
    commit = git("rev-parse", "--short=12", "HEAD")
    return (
        f"{commit}{'+changes' if git('status', '--porcelain', '--untracked-files=no', ':/') else ''}" if commit else ""
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
