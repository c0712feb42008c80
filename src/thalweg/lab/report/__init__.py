"""The report: one self-contained HTML file made from a study's stored runs alone, and beside it the same as text and tables."""

from pathlib import Path

from thalweg.lab.analysis import Analysis
from thalweg.lab.overall import Overall
from thalweg.lab.page import write_page, write_text
from thalweg.lab.report.figures import figures
from thalweg.lab.report.markdown import markdown
from thalweg.lab.report.view import view
from thalweg.lab.tables import as_csv, curves_table, runs_table

__all__ = ["write_report"]


def write_report(analysis: Analysis) -> Path:
    """Write report.html, report.md, runs.csv and curves.csv into the study's folder, and return the first one's path.

    Raises:
        UserError: a file cannot be written.
    """
    folder, meant = analysis.store.folder, f"STUDY {analysis.store.folder}"
    overall = Overall(analysis)
    drawn = [run for cell in analysis.cells for run in (*cell.finals, cell.sharpness) if run is not None]
    write_text(folder / "report.md", meant, markdown(analysis, overall))
    write_text(folder / "runs.csv", meant, as_csv(runs_table(analysis.runs)))
    write_text(folder / "curves.csv", meant, as_csv(curves_table(drawn)))
    return write_page(
        folder / "report.html", meant, "report", view=view(analysis, overall), data=figures(analysis, overall)
    )
