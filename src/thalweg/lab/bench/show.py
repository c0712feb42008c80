"""A result as a table for the terminal and as Markdown, from the same cells."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from thalweg.lab.bench.result import Result, Row
from thalweg.lab.bench.timing import Spread

STEP_COLUMNS = ("rule", "subject", "ms", "ms, 10–90 %", "× torch fused", "× torch foreach", "temporaries ÷ parameters")
COMPILE_COLUMNS = ("rule", "cold s", "warm s", "of which importing the compiler s", "recompiles")
FOOTNOTE = (
    "Ratios are medians of per-round ratios with their 10–90 % range; rounds are interleaved in one process. "
    "Cold and warm are the first step in a fresh process with an empty and a filled cache."
)


def title(result: Result) -> list[str]:
    """The conditions in three lines."""
    c = result.conditions
    return [
        f"{c.model}: {c.tensors} tensors, {c.elements / 1e6:.1f} M {c.dtype} parameters, {c.rounds} rounds",
        f"{c.date} · {c.device} · {c.processor}, load {c.load:.1f} before · {c.threads} threads",
        f"python {c.python} · " + " · ".join(f"{name} {version}" for name, version in c.versions.items()),
    ]


def step_cells(result: Result) -> list[list[str]]:
    """One line of text cells a subject; the rule is named on its first line; host time where it differs."""
    lines: list[list[str]] = []
    rule = ""
    for row in result.rows:
        twins = ("torch fused",), ("torch foreach", "torch")  # the last for a class that has one form only
        ratios = [_ratio(next((row.ratios[t] for t in names if t in row.ratios), None)) for names in twins]
        first = row.rule if row.rule != rule else ""
        rule = row.rule
        spread = f"{row.milliseconds.low:.2f}–{row.milliseconds.high:.2f}"
        lines.append([first, row.subject, _milliseconds(row), spread, *ratios, f"{row.temporaries:.2f}"])
    return lines


def compile_cells(result: Result) -> list[list[str]]:
    """One line of text cells a rule."""
    return [
        [c.rule, f"{c.cold:.1f}", f"{c.warm:.1f}", f"{c.importing:.1f}", str(c.recompiles)] for c in result.compiling
    ]


def terminal(result: Result) -> RenderableType:
    """The whole result for a rich console."""
    parts: list[RenderableType] = [Text("\n".join(title(result))), _table(STEP_COLUMNS, step_cells(result))]
    if result.compiling:
        parts.append(_table(COMPILE_COLUMNS, compile_cells(result)))
    return Group(*parts, Text(FOOTNOTE, style="dim"))


def markdown(result: Result) -> str:
    """The whole result as a page."""
    heading, *rest = title(result)
    parts = [f"# {heading}", *rest, _markdown_table(STEP_COLUMNS, step_cells(result))]
    if result.compiling:
        parts.append(_markdown_table(COMPILE_COLUMNS, compile_cells(result)))
    return "\n\n".join([*parts, FOOTNOTE]) + "\n"


def _milliseconds(row: Row) -> str:
    wall, host = row.milliseconds.median, row.host_milliseconds.median
    return f"{wall:.2f}" if host > 0.9 * wall else f"{wall:.2f} (host {host:.2f})"


def _ratio(ratio: Spread | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


def _table(columns: tuple[str, ...], lines: list[list[str]]) -> Table:
    table = Table(show_edge=False)
    for i, column in enumerate(columns):
        numeric = i > 0 and column != "subject"
        table.add_column(column, justify="right" if numeric else "left", no_wrap=not numeric)
    for i, line in enumerate(lines):
        last_of_rule = i + 1 < len(lines) and bool(lines[i + 1][0])
        table.add_row(*line, style="bold" if line[1].startswith("thalweg") else "", end_section=last_of_rule)
    return table


def _markdown_table(columns: tuple[str, ...], lines: list[list[str]]) -> str:
    rule = ["---"] * len(columns)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (list(columns), rule, *lines))
