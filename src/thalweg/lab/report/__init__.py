"""The report: one self-contained HTML file made from a study's stored runs alone."""

import os
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from thalweg.lab.analysis import Analysis
from thalweg.lab.errors import UserError
from thalweg.lab.report.figures import figures
from thalweg.lab.report.view import view
from thalweg.lab.untyped import untyped

__all__ = ["write_report"]


def write_report(analysis: Analysis) -> Path:
    """Write STUDY/report.html and return its path. The file needs no network: plotly's script is inside, once.

    Raises:
        UserError: the file cannot be written.
    """
    html = (
        _template_environment()
        .get_template("template.html")
        .render(view=view(analysis), figures=figures(analysis), plotly=_plotly_script())
    )
    path = analysis.store.folder / "report.html"
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        draft.write_text(html, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise UserError(f"STUDY {analysis.store.folder}: report.html cannot be written: {error.strerror}.") from error
    return path


@cache
def _template_environment() -> Environment:
    loader = PackageLoader("thalweg.lab.report", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _plotly_script() -> str:
    # A closing tag inside a string of the script would end the element that holds it.
    return str(untyped("plotly.offline").get_plotlyjs()).replace("</script", "<\\/script")
