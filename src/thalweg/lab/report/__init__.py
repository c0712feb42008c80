"""The report: one self-contained HTML file made from a study's stored runs alone."""

from pathlib import Path

from thalweg.lab.analysis import Analysis
from thalweg.lab.page import write_page
from thalweg.lab.report.figures import figures
from thalweg.lab.report.view import view

__all__ = ["write_report"]


def write_report(analysis: Analysis) -> Path:
    """Write STUDY/report.html and return its path.

    Raises:
        UserError: the file cannot be written.
    """
    path = analysis.store.folder / "report.html"
    return write_page(path, f"STUDY {analysis.store.folder}", "report", view=view(analysis), data=figures(analysis))
