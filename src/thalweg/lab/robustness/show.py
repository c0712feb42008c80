"""The figures of a study of robustness in words: the table that the terminal, the page and report.md all show."""

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thalweg.lab.analysis import Analysis
from thalweg.lab.robustness.outcome import Gain, Headline, Row, headlines, rows
from thalweg.lab.robustness.sweep import Width, panels

COLUMNS = (
    "task", "optimizer", "best lr", "usable decades", "gain", "diverged", "loss at ×1", "÷ plain", "extra gradients",
    "step time ÷ plain",
)  # fmt: skip


def show_verdict(console: Console, analysis: Analysis) -> None:
    """Print the table and a sentence for each steered optimizer."""
    found = rows(panels(analysis))
    table = Table(title="Verdict (over the learning rate, against the same rule plain)", title_justify="left")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if number < 2 else "right")
    for number, row in enumerate(found):
        task, *others = cells(row)
        again = number > 0 and found[number - 1].task == row.task
        last = number + 1 == len(found) or found[number + 1].task != row.task
        style = "dim" if row.over is None else ""
        table.add_row("" if again else task, *(Text(text, style=style) for text in others), end_section=last)
    console.print(table)
    for headline in headlines(found):
        console.print(sentence(headline))


def cells(row: Row) -> list[str]:
    """Say a row, in the order of `COLUMNS`."""
    return [
        row.task,
        row.optimizer,
        "–" if row.lr is None else f"{row.lr:.3g}",
        width(row.width),
        gain(row.gain),
        share(row.diverged, row.runs),
        _number(row.loss, ".4g"),
        ratio(row.loss_ratio),
        percent(row.extra_gradients),
        ratio(row.seconds_ratio),
    ]


def width(found: Width | None) -> str:
    """Say a width; ≥ where it reaches an end of the sweep."""
    if found is None:
        return "–"
    return f"{'≥ ' if found.open else ''}{found.decades:.2f}" if found.decades else "none"


def gain(found: Gain | None) -> str:
    """Say a gain: ≥ or ≤ where one of the ranges reaches an end of the sweep, ? where both do."""
    if found is None:
        return "–"
    bound = "? " if found.at_least and found.at_most else "≥ " if found.at_least else "≤ " if found.at_most else ""
    return bound + signed(found.decades)


def signed(value: float) -> str:
    """Say a difference with its sign."""
    return f"{value:+.2f}".replace("-", "−")


def share(count: int, total: int) -> str:
    """Say how many of the runs."""
    return f"{count}/{total}" if total else "–"


def percent(value: float | None) -> str:
    """Say a part."""
    return "–" if value is None else f"{100 * value:.1f} %".replace("-", "−")


def ratio(value: float | None) -> str:
    """Say a ratio."""
    return _number(value, ".3f")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else "diverged" if math.isinf(value) else format(value, form)


def sentence(found: Headline) -> str:
    """Say what an optimizer did against the same rule plain, over all tasks."""
    said = "; ".join(" ".join(filter(None, tile)) for tile in tiles(found))
    return f"{found.optimizer} over {found.over}: {said}."


def tiles(found: Headline) -> list[tuple[str, str, str]]:
    """Say the figures of a headline one by one: what, how much, compared with what or between what over the tasks."""
    said = [("diverged", share(found.diverged, found.runs), f"(plain {share(found.plain_diverged, found.plain_runs)})")]
    for what, spread, say in (
        ("usable decades gained", found.gain, signed),
        ("loss at ×1 ÷ plain", found.loss_ratio, ratio),
        ("extra gradients", found.extra_gradients, percent),
        ("step time ÷ plain", found.seconds_ratio, ratio),
    ):
        if spread is not None:
            between = f"({say(spread.low)} … {say(spread.high)})" if spread.low < spread.high else ""
            said.append((what, say(spread.middle), between))
    return said


NOTES = (
    "Usable: the median loss is within 5 % of the best or, where there is an accuracy, the median accuracy within 1 point"
    " of the best; the best of the plain and the steered runs together. Between the learning rates tried, by interpolation"
    " in log lr. ≥: the range reaches an end of the sweep; ?: both do.",
    "Diverged: the training loss was not finite or passed {ceiling:g} times the untrained network's; or it passed twice"
    " that loss and the run ended above nine tenths of it. A run that merely learned nothing did not diverge.",
    "×1 is the plain optimizer's best learning rate, tuned for it alone. All runs of a task have equally"
    " many steps; what measuring costs beside them are the extra gradients and the step time, those at ×1. Between brackets:"
    " the lowest and the highest of the tasks.",
)
"""What the words of the table mean."""
