"""What one run of the bench found, and under which conditions."""

import datetime
from dataclasses import asdict, dataclass
from typing import Any

import torch

from thalweg.lab.bench.compiling import Compiling
from thalweg.lab.bench.subjects import versions
from thalweg.lab.bench.timing import Spread
from thalweg.lab.environment import environment


@dataclass(frozen=True)
class Row:
    """One subject of one rule: milliseconds a step, ratios to torch's twins, peak temporaries ÷ parameter bytes."""

    rule: str
    subject: str
    milliseconds: Spread
    host_milliseconds: Spread
    ratios: dict[str, Spread]
    temporaries: float


@dataclass(frozen=True)
class Conditions:
    """What the numbers depend on."""

    date: str
    processor: str
    device: str
    threads: int
    python: str
    versions: dict[str, str]
    model: str
    tensors: int
    elements: int
    dtype: str
    rounds: int
    load: float
    """Processes that wanted a core, a minute's average before the run: more than none makes the milliseconds worthless."""


@dataclass(frozen=True)
class Result:
    """A run of the bench."""

    conditions: Conditions
    rows: list[Row]
    compiling: list[Compiling]

    def as_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        return asdict(self)


def conditions(
    *, model: str, tensors: int, elements: int, device: str, dtype: str, threads: int, rounds: int, load: float
) -> Conditions:
    """The conditions of a run in this process."""
    machine = environment()
    return Conditions(
        date=datetime.date.today().isoformat(),
        processor=f"{machine.processor}, {machine.cores} cores",
        device=torch.cuda.get_device_name() if torch.device(device).type == "cuda" else "cpu",
        threads=threads,
        python=machine.python,
        versions=versions(),
        model=model,
        tensors=tensors,
        elements=elements,
        dtype=dtype,
        rounds=rounds,
        load=load,
    )
