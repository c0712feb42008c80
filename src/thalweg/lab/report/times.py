"""The words and tables about time to targets, and about all tasks together."""

import math
from typing import Any

from thalweg.lab.analysis import Analysis, Cell
from thalweg.lab.contract import TaskTerms
from thalweg.lab.overall import Overall
from thalweg.lab.show import SIGNS, number, plain_interval, sped_up
from thalweg.lab.words import amount


def target_tables(analysis: Analysis) -> list[dict[str, Any]]:
    """Return a table for each task that has targets: median times, and speed-ups over the references."""
    return [
        {"terms": task, "rows": [_times_row(analysis, cell) for cell in _fastest_first(analysis, task)]}
        for task in analysis.store.contract.tasks
        if task.targets
    ]


def untargeted(analysis: Analysis) -> list[str]:
    """Return the tasks without targets."""
    return [task.name for task in analysis.store.contract.tasks if not task.targets]


def _fastest_first(analysis: Analysis, task: TaskTerms) -> list[Cell]:
    def misses_then_time(cell: Cell) -> tuple[int, float]:
        medians = cell.times["charged"].medians
        return sum(map(math.isinf, medians)), sum(time for time in medians if math.isfinite(time))

    return sorted((cell for cell in analysis.of_task(task.name) if cell.finals), key=misses_then_time)


def _times_row(analysis: Analysis, cell: Cell) -> dict[str, Any]:
    times, hardest = cell.times["charged"], len(cell.task.targets) - 1
    reached = [sum(map(math.isfinite, column)) for column in times.reached.T.tolist()]
    return {
        "name": cell.terms.name,
        "failures": cell.failures,
        "times": [
            {"median": "never" if math.isinf(median) else f"{median:.0f}", "reached": f"{count}/{len(cell.finals)}"}
            for median, count in zip(times.medians, reached, strict=True)
        ],
        "against": [_against(analysis, cell, reference, hardest) for reference in analysis.references],
    }


def _against(analysis: Analysis, cell: Cell, reference: str, level: int) -> dict[str, str]:
    found = analysis.speed_up(cell, reference)
    if found is None:
        return {"ratio": "–", "confidence": "", "verdict": "", "sign": "", "p": "–"}
    p = analysis.log_rank(cell, reference, level)
    return {
        "ratio": sped_up(found),
        "confidence": f"{found.confidence:.1%}, {amount(found.seeds, 'seed')}",
        "verdict": found.verdict,
        "sign": SIGNS[found.verdict],
        "p": "–" if p is None else f"{p:.2g}",
    }


def unscored(overall: Overall) -> str:
    """Say why there are no scores, if it is not for missing runs."""
    return (
        f"There are no scores: what would score 1 is no better than the untrained network on {', '.join(overall.unscored)}."
        if overall.unscored
        else ""
    )


def overall_rows(analysis: Analysis, overall: Overall) -> list[dict[str, Any]]:
    """Return a row an optimizer: score, P(improvement) over each reference, area of the performance profile, failures.

    The best score and area are marked among those that failed least often alone.
    """
    areas = {found.optimizer: found.area for found in overall.profiles["charged"]}
    best_score = max((overall.scores[name].middle for name in overall.reliable if name in overall.scores), default=None)
    best_area = max((areas[name] for name in overall.reliable if name in areas), default=None)
    rows: list[dict[str, Any]] = []
    for name, failed in overall.failures.items():
        score, reliable = overall.scores.get(name), name in overall.reliable
        chances = [analysis.improvement(name, reference) for reference in analysis.references]
        rows.append(
            {
                "name": name,
                "score": plain_interval(score) if score else "–",
                "best_score": reliable and score is not None and score.middle == best_score,
                "improvement": [plain_interval(chance) if chance else "–" for chance in chances],
                "area": f"{areas[name]:.2f}" if name in areas else "–",
                "best_area": reliable and name in areas and areas[name] == best_area,
                "failures": failed,
            }
        )
    return rows


def target_values(task: TaskTerms) -> list[str]:
    """Say a task's targets."""
    return [number(target) for target in task.targets]
