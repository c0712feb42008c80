"""What a study's runs come to, in the three forms that commands show: in the terminal, as plain data, as a page."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from thalweg.lab import report, show, summary
from thalweg.lab.analysis import Analysis
from thalweg.lab.contract import Contract
from thalweg.lab.plain import Json
from thalweg.lab.robustness import page as robustness_page
from thalweg.lab.robustness import show as robustness_show
from thalweg.lab.robustness import summary as robustness_summary


class Forms(NamedTuple):
    """How a study is shown."""

    show: Callable[[Console, Analysis], None]
    summary: Callable[[Analysis], Json]
    write: Callable[[Analysis], Path]
    """Writes STUDY/report.html and returns its path."""


COMPARISON = Forms(show.show_verdict, summary.summary, report.write_report)
SWEEP = Forms(robustness_show.show_verdict, robustness_summary.summary, robustness_page.write_report)


def forms(contract: Contract) -> Forms:
    """Return how a contract's study is shown."""
    return SWEEP if contract.multiples else COMPARISON
