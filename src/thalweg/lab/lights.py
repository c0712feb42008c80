"""Validity lights: what a reader must know before believing a study."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from thalweg.lab.analysis import Analysis

ENOUGH_SEEDS = 10
BUDGET_SLACK = 0.03
"""The last step may overshoot the budget by less than this part: newton_cg's, the dearest, is 2.8 % of 300 gradients."""


@dataclass(frozen=True)
class Light:
    """One check."""

    level: Literal["red", "amber", "green"]
    title: str
    detail: str


def lights(analysis: Analysis) -> list[Light]:
    """Check a study; the gravest lights come first."""
    checks = [_complete, _crashes, _budget, _seeds, _environment]
    found = [check(analysis) for check in checks] + ([_boundary(analysis)] if analysis.store.contract.trials else [])
    return sorted(found, key=lambda light: ["red", "amber", "green"].index(light.level))


def _complete(analysis: Analysis) -> Light:
    missing = analysis.store.contract.runs - len(analysis.runs)
    if missing:
        return Light("red", "Unfinished", f"{missing} of {analysis.store.contract.runs} runs have no result yet.")
    return Light("green", "Finished", f"All {analysis.store.contract.runs} runs of the contract have a result.")


def _crashes(analysis: Analysis) -> Light:
    states = Counter(run.result.state for run in analysis.runs)
    broken = {state: count for state, count in states.items() if state not in ("ok", "diverged")}
    counted = "" if analysis.store.contract.multiples else "; they count as the worst value"
    diverged = f"{states['diverged']} runs diverged or ended worse than untrained{counted}."
    if broken:
        counts = ", ".join(f"{count} {state}" for state, count in broken.items())
        return Light("red", "Runs broke", f"{counts}; they count as the worst value. {diverged}")
    return Light("green", "No run broke", diverged)


def _budget(analysis: Analysis) -> Light:
    over = [
        run.config.path
        for run in analysis.runs
        if run.result.ok
        and abs(run.config.used(run.result.steps, run.result.charged) / run.config.budget - 1) > BUDGET_SLACK
    ]
    if over:
        return Light("red", "Unequal budget", f"{len(over)} runs used more than their gradients: {over[0]} …")
    trials = analysis.store.contract.trials
    tuning = f"{trials} trials each" if trials else "No trials"
    return Light("green", "Equal budget", f"{tuning}, equal {analysis.store.contract.counted} a run.")


def _boundary(analysis: Analysis) -> Light:
    cells = [f"{cell.terms.name} on {cell.task.name}" for cell in analysis.cells if cell.at_boundary]
    if cells:
        return Light("amber", "Best learning rate at a boundary", f"{', '.join(cells)}: a wider range might do better.")
    return Light("green", "No boundary", "Every selected learning rate lies inside the tried range.")


def _seeds(analysis: Analysis) -> Light:
    seeds = len(analysis.store.contract.final_seeds)
    if seeds < ENOUGH_SEEDS:
        return Light("amber", "Few seeds", f"{seeds} final seeds; below {ENOUGH_SEEDS}, read every point, not a mean.")
    return Light("green", "Seeds", f"{seeds} final seeds.")


def _environment(analysis: Analysis) -> Light:
    count = len(analysis.store.environments())
    if count > 1:
        return Light("amber", "Mixed environments", f"Runs come from {count} different machines, versions or commits.")
    return Light("green", "One environment", "All runs come from one machine, version and commit.")
