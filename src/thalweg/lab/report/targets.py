"""The data of the figures about time to targets. An infinite time or ratio is null."""

from typing import Any

from thalweg.lab.analysis import MEASURES, Analysis, Cell
from thalweg.lab.overall import Overall
from thalweg.lab.report.curves import rounded
from thalweg.lab.statistics.survival import share_reached


def reached(cell: Cell) -> dict[str, Any]:
    """Return, for every measure of time and every target, how the share of seeds that have reached it rises."""
    levels = range(len(cell.task.targets) if cell.finals else 0)
    return {
        "optimizer": cell.terms.name,
        **{measure: [_steps(share_reached(cell.times[measure], level)) for level in levels] for measure in MEASURES},
    }


def _steps(steps: list[tuple[float, float]]) -> dict[str, list[float | None]]:
    return {"x": [rounded(x) for x, _ in steps], "y": [rounded(y) for _, y in steps]}


def speed_ups(analysis: Analysis, cells: list[Cell]) -> list[dict[str, Any]]:
    """Return the speed-ups of a task's optimizers over each reference, in every measure."""
    return [
        {
            "optimizer": cell.terms.name,
            "reference": reference,
            "measure": measure,
            "middle": rounded(found.ratio.middle),
            "low": rounded(found.ratio.low),
            "high": rounded(found.ratio.high),
            "confidence": rounded(found.confidence),
            "seeds": [rounded(ratio) for ratio in found.each],
            "verdict": found.verdict,
            "failures": cell.failures,
        }
        for reference in analysis.references
        for measure in MEASURES
        for cell in cells
        if (found := analysis.speed_up(cell, reference, measure)) is not None
    ]


def performance_profiles(overall: Overall) -> dict[str, list[dict[str, Any]]]:
    """Return the performance profiles, in every measure."""
    return {
        measure: [
            {
                "optimizer": found.optimizer,
                "tau": [rounded(tau) for tau, _ in found.steps],
                "part": [rounded(part) for _, part in found.steps],
                "area": rounded(found.area),
            }
            for found in profiles
        ]
        for measure, profiles in overall.profiles.items()
    }
