"""Write a study's results into the documentation: each optimizer's own onto its page, all of them onto one.

    python scripts/results.py STUDY

A page's part is what stands between its two marks; where there is none yet, it is added at the end.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from thalweg.lab.analysis import Analysis
from thalweg.lab.contract import EntryTerms, TaskTerms
from thalweg.lab.lights import lights
from thalweg.lab.reproduce import command
from thalweg.lab.show import SIGNS, median
from thalweg.lab.store import Store

DOCS = Path(__file__).parents[1] / "docs"
MARKS = "<!-- results: scripts/results.py -->", "<!-- end of results -->"
REFERENCE = "adamw"
WORDS = "▲ better than tuned AdamW, ▼ worse, = tie, ? not resolved; medians over fresh seeds, on validation; – failed on most."


def page_of(terms: EntryTerms) -> str:
    """The page of an optimizer: that of what steers it, else that of its rule."""
    return terms.entry.steering.by if terms.entry.steering else terms.entry.rule


def cell(analysis: Analysis, task: TaskTerms, name: str) -> str:
    """The median, and the verdict against AdamW."""
    found = analysis.cell(task.name, name)
    comparison = analysis.comparison(found, REFERENCE)
    return f"{median(found)} {SIGNS[comparison.verdict] if comparison else ''}".strip()


def chance(analysis: Analysis, name: str) -> float:
    """The chance to beat AdamW over all tasks; even of AdamW itself."""
    found = analysis.improvement(name, REFERENCE)
    return found.middle if found else 0.5


def table(analysis: Analysis, names: list[str]) -> list[list[str]]:
    """One row a task, one column an optimizer, and the chance to beat AdamW over all tasks."""
    rows = [["", *(f"`{name}`" for name in names)]]
    for task in analysis.store.contract.tasks:
        arrow = "↑" if task.better == "max" else "↓"
        rows.append([f"`{task.name}`, {task.metric} {arrow}", *(cell(analysis, task, name) for name in names)])
    chances = ["–" if name == REFERENCE else f"{chance(analysis, name):.2f}" for name in names]
    return [*rows, [f"P(better than {REFERENCE})", *chances]]


def written(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown, numbers to the right."""
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---", *["---:"] * (len(head) - 1)], *body])


def put(page: Path, text: str, heading: str) -> None:
    """Write a part into a page."""
    old = page.read_text(encoding="utf-8")
    part = f"{MARKS[0]}\n\n{text}\n\n{MARKS[1]}"
    pattern = f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}"
    marked = re.search(pattern, old, re.DOTALL)
    new = old.replace(marked[0], part) if marked else f"{old.rstrip()}\n\n## {heading}\n\n{part}\n"
    page.write_text(new, encoding="utf-8")


def main(folder: str) -> None:
    """Write the results of the study in a folder."""
    analysis = Analysis.of(Store.open(Path(folder)))
    contract = analysis.store.contract
    said = (
        f"From the suite `{contract.suite}` ({contract.trials} trials, {len(contract.final_seeds)} fresh seeds, contract"
        f" {contract.hash})"
    )
    for page in sorted({page_of(terms) for terms in contract.optimizers}):
        own = [terms.name for terms in contract.optimizers if page_of(terms) == page]
        names = own if REFERENCE in own else [*own, REFERENCE]
        text = f"{said}: {WORDS} [All optimizers](../results.md).\n\n{written(table(analysis, names))}"
        put(DOCS / "optimizers" / f"{page}.md", text, "In the lab")
    where = "\n".join(f"- {environment.said}" for environment in analysis.store.environments())
    names = sorted((terms.name for terms in contract.optimizers), key=lambda name: -chance(analysis, name))
    whole = written(list(zip(*table(analysis, names), strict=True)))
    again = f"```sh\n{command(contract)}\n```"
    doubts = "\n".join(f"- {light.title}: {light.detail}" for light in lights(analysis) if light.level != "green")
    parts = [f"{said}: {WORDS}", whole, *(["What makes it doubtful:", doubts] if doubts else []), again, where]
    put(DOCS / "results.md", "\n\n".join(parts), "All optimizers")


if __name__ == "__main__":
    main(*sys.argv[1:])
