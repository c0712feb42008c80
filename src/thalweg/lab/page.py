"""Pages: one self-contained HTML file each, that opens from disk and needs no network."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from thalweg.lab.errors import UserError
from thalweg.lab.untyped import untyped
from thalweg.lab.words import amount


def write_page(path: Path, meant: str, package: str, **values: Any) -> Path:
    """Fill template.html of a package of the lab, which extends page.html, plotly's script inside it, once; return the path.

    Args:
        path: the file, which is there whole or not at all.
        meant: what the user called it, for the error.
        package: whose template.
        values: what the template takes: ``view``, ``data`` for its script.

    Raises:
        UserError: the file cannot be written.
    """
    template = _environment().get_template(f"{package}/template.html")
    html = template.render(plotly=_plotly_script(), amount=amount, **values)
    return write_text(path, meant, html)


def write_text(path: Path, meant: str, text: str) -> Path:
    """Write a file, which is there whole or not at all, and return its path.

    Raises:
        UserError: the file cannot be written.
    """
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise UserError(f"{meant}: {path.name} cannot be written: {error.strerror}.") from error
    return path


@cache
def _environment() -> Environment:
    loader = PackageLoader("thalweg.lab", ".")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.policies["json.dumps_kwargs"] = {}  # in the order given: Jinja would sort
    return made


def _plotly_script() -> str:
    # A closing tag inside a string of the script would end the element that holds it.
    return str(untyped("plotly.offline").get_plotlyjs()).replace("</script", "<\\/script")
