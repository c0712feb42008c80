"""The report as Markdown: verdicts, speed-ups, lights, statistics, how to do it again."""

from datetime import UTC, datetime

from thalweg.lab.analysis import Analysis
from thalweg.lab.contract import TaskTerms
from thalweg.lab.lights import lights
from thalweg.lab.markdown import command, escaped, listed, table
from thalweg.lab.overall import Overall
from thalweg.lab.report.times import overall_rows, target_tables, target_values, unscored
from thalweg.lab.reproduce import command as again
from thalweg.lab.show import SIGNS, against, median, number, plan, signed, unresolved, warnings
from thalweg.lab.statistics.paired import Comparison
from thalweg.lab.words import amount


def markdown(analysis: Analysis, overall: Overall) -> str:
    """Say a study in Markdown."""
    contract = analysis.store.contract
    blocks = [
        f"# {escaped(contract.suite)}",
        escaped(plan(contract)),
        *_verdict(analysis),
        "## Validity",
        listed(f"{light.level}: {light.title}. {light.detail}" for light in lights(analysis)),
        listed([*warnings(contract), *unresolved(analysis)]),
        *_overall(analysis, overall),
        *_times(analysis),
        *(block for task in contract.tasks for block in _finals(analysis, task)),
        "## Reproduce",
        command(again(contract)),
        f"Contract {contract.hash}, {len(analysis.runs)} of {contract.runs} runs, {datetime.now(UTC).date()}."
        " Every run is a line of runs.csv, every point of its curve one of curves.csv.",
        listed(f"{task.name}: {task.summary}; data {task.data_hash}" for task in contract.tasks),
        listed(environment.said for environment in analysis.environments),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _verdict(analysis: Analysis) -> list[str]:
    contract = analysis.store.contract
    reference = analysis.references[0] if analysis.references else None
    rows: list[list[str]] = []
    for terms in contract.optimizers:
        row = [terms.name]
        for task in contract.tasks:
            cell = analysis.cell(task.name, terms.name)
            comparison = analysis.comparison(cell, reference) if reference else None
            failed = f" ({cell.failures} failed)" if cell.failures else ""
            row.append(f"{median(cell)}{failed}{' ' + SIGNS[comparison.verdict] if comparison else ''}")
        rows.append(row)
    columns = ["optimizer", *(f"{task.name}, {task.metric} in {task.unit} ({task.better})" for task in contract.tasks)]
    meaning = (
        f"Medians of {amount(len(contract.final_seeds), 'final seed')} on validation. ▲ better {against(contract, reference)},"
        " ▼ worse, = tie, ? not resolved."
        if reference
        else "Medians on validation. No reference optimizer takes part, so nothing is ranked."
    )
    return ["## Verdict", table(columns, rows), escaped(meaning)]


def _overall(analysis: Analysis, overall: Overall) -> list[str]:
    columns = ["optimizer", "score (IQM)", *(f"P(better than {name})" for name in analysis.references)]
    rows = [
        [row["name"], row["score"], *row["improvement"], row["area"], str(row["failures"])]
        for row in overall_rows(analysis, overall)
    ]
    return [
        "## All tasks together",
        escaped(unscored(overall)),
        table([*columns, "area of the profile", "failed"], rows),
    ]


def _times(analysis: Analysis) -> list[str]:
    """Speed-ups over the first reference, and the median times, of every task with targets."""
    blocks: list[str] = []
    for found in target_tables(analysis):
        task: TaskTerms = found["terms"]
        columns = ["optimizer", *(f"to {target} {task.unit}" for target in target_values(task))]
        columns += [f"times faster than {name}" for name in analysis.references]
        rows = [
            [
                row["name"],
                *(f"{time['median']} ({time['reached']})" for time in row["times"]),
                *(
                    f"{other['ratio']} {other['sign']} {other['confidence'] and '(' + other['confidence'] + ')'}".strip()
                    for other in row["against"]
                ),
            ]
            for row in found["rows"]
        ]
        blocks += [f"### {escaped(task.name)}: gradient-equivalents to the targets", table(columns, rows)]
    return ["## Time to target", *blocks] if blocks else []


def _finals(analysis: Analysis, task: TaskTerms) -> list[str]:
    columns = ["optimizer", "median", "95 % interval", "IQM", "failed"]
    columns += [f"difference from {name}" for name in analysis.references]
    rows: list[list[str]] = []
    for cell in analysis.of_task(task.name):
        if cell.median is None:
            continue
        row = [cell.terms.name, median(cell), f"{number(cell.median.low)} … {number(cell.median.high)}"]
        row += [number(cell.interquartile_mean), str(cell.failures)]
        for name in analysis.references:
            comparison = analysis.comparison(cell, name)
            row.append("–" if comparison is None else _difference(comparison))
        rows.append(row)
    return [f"### {escaped(task.name)}: final results", table(columns, rows)] if rows else []


def _difference(found: Comparison) -> str:
    said = "by ranks" if found.difference is None else signed(found.difference)
    return f"{said} {SIGNS[found.verdict]}"
