"""References measured anew, several at a time."""

import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import torch

from thalweg.lab.errors import Missing, UserError
from thalweg.lab.untyped import untyped
from thalweg.lab.verify.references import Measurement, Reference

Verdict = Literal["pass", "fail", "error", "no files"]
"""What came of a reference; one whose files are not there is no pass and no failure."""


@dataclass(frozen=True)
class Outcome:
    """What came of a reference.

    Attributes:
        ours: None if measuring it raised an error, or needs files that are not there.
        seconds: wall time.
        error: the traceback.
        missing: the files or the library that it needs.
    """

    reference: Reference
    ours: Measurement | None
    seconds: float
    error: str = ""
    missing: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether ours lies within the tolerance of the reference; NaN does not."""
        if self.ours is None:
            return "no files" if self.missing else "error"
        return "pass" if abs(self.ours.value - self.reference.value) <= self.reference.tolerance else "fail"

    @property
    def failed(self) -> bool:
        """Whether it was measured, or should have been, and did not pass."""
        return self.verdict in ("fail", "error")


def outcomes(references: Sequence[Reference], jobs: int) -> Iterator[Outcome]:
    """Measure all references, ``jobs`` at a time, one torch thread each; yield each as it ends."""
    joblib = untyped("joblib")
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(min(jobs, len(references)), return_as="generator_unordered", batch_size=1)
        yield from parallel(joblib.delayed(measured)(reference) for reference in references)


def measured(reference: Reference) -> Outcome:
    """Measure one reference; an error is its outcome, not the end of the others."""
    threads, started = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(1)
    ours, error, missing = None, "", ""
    try:
        module, function = reference.measure.split(":")
        ours = getattr(import_module(f"{__package__}.{module}"), function)(**reference.setting)
    except Missing as absent:
        missing = str(absent)
    except UserError as refused:
        error = str(refused)
    except Exception:  # training may raise anything, and no error may end the other references
        error = traceback.format_exc()
    finally:
        torch.set_num_threads(threads)
    return Outcome(reference, ours, round(time.perf_counter() - started, 2), error, missing)
