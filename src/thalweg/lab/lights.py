"""Validity lights: what a reader must know before believing a study."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from thalweg.lab.analysis import Analysis
from thalweg.lab.space import tuned_names
from thalweg.lab.words import amount

ENOUGH_SEEDS = 10
BUDGET_SLACK = 0.04
"""The last step may overshoot the budget by less than this part: one with a probe of dcao, the dearest, is 3.7 % of 300
gradients."""

VERIFIED = "verified.json"
"""In the study's folder: what ``thalweg verify`` found on the machine, {"passed": bool, "date": str, "failed": [str, …]}."""
INCLUSIONS = {
    ("momentum", "sgd"): "momentum",
    ("nesterov", "sgd"): "momentum",
    ("rmsprop", "sgd"): "eps",
    ("adam", "momentum"): "eps",
    ("adamw", "momentum"): "eps",
    ("nadam", "nesterov"): "eps",
}
"""(an optimizer, what it contains): the hyperparameter in whose limit it does (Choi et al., arXiv:1910.05446, sect. 3)."""


@dataclass(frozen=True)
class Light:
    """One check."""

    level: Literal["red", "amber", "green"]
    title: str
    detail: str


def lights(analysis: Analysis) -> list[Light]:
    """Check a study; the gravest lights come first."""
    contract = analysis.store.contract
    checks = [_complete, _crashes, _budget, _seeds, _environment, _references]
    checks += [_boundary] if contract.trials else []
    checks += [_inclusion] if contract.ruleset == "tuned" else []
    found = [check(analysis) for check in checks]
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
    used = {
        run.config.path: run.config.used(run.result.steps, run.result.charged) / run.config.budget
        for run in analysis.runs
        if run.result.ok and run.config.phase != "timing"
    }
    counted = analysis.store.contract.counted
    furthest = max(used, key=lambda path: abs(used[path] - 1), default=None)
    off = 0.0 if furthest is None else float(used[furthest]) - 1
    if abs(off) > BUDGET_SLACK:
        return Light("red", "Unequal budget", f"{furthest} used {1 + off:.1%} of its {counted}.")
    trials = analysis.store.contract.trials
    tuning = f"{amount(trials, 'trial')} each" if trials else "No trials"
    overran = f"; no step is cut short, so the last one overran by up to {off:.1%}" if off > 0 else ""
    return Light("green", "Equal budget", f"{tuning}, equal {counted} a run{overran}.")


def _boundary(analysis: Analysis) -> Light:
    cells = [f"{cell.terms.name} on {cell.task.name}" for cell in analysis.cells if cell.at_boundary]
    if cells:
        return Light("amber", "Best learning rate at a boundary", f"{', '.join(cells)}: a wider range might do better.")
    return Light("green", "No boundary", "Every selected learning rate lies inside the tried range.")


def _seeds(analysis: Analysis) -> Light:
    seeds = len(analysis.store.contract.final_seeds)
    if seeds < ENOUGH_SEEDS:
        return Light(
            "amber", "Few seeds", f"{amount(seeds, 'final seed')}; below {ENOUGH_SEEDS}, read every point, not a mean."
        )
    return Light("green", "Seeds", f"{amount(seeds, 'final seed')}.")


def _environment(analysis: Analysis) -> Light:
    count = len(analysis.environments)
    if count > 1:
        return Light("amber", "Mixed environments", f"Runs come from {count} different machines, versions or commits.")
    return Light("green", "One environment", "All runs come from one machine, version and commit.")


def _inclusion(analysis: Analysis) -> Light:
    """An optimizer that contains another one cannot be worse at its best: then tuning has not found its best."""
    contract = analysis.store.contract
    searched = {terms.name: tuned_names(terms.entry, contract.trials) for terms in contract.optimizers}
    pairs = [pair for pair in INCLUSIONS if {*pair} <= {*searched}]
    found = [
        (whole, part, cell.task.name)
        for whole, part in pairs
        for cell in analysis.cells
        if cell.terms.name == whole
        and (comparison := analysis.comparison(cell, part)) is not None
        and comparison.verdict == "worse"
    ]
    if not found:
        detail = f"Of {amount(len(pairs), 'pair')} in which one contains the other, none has the larger one worse."
        return Light("green", "Inclusion holds", detail if pairs else "No optimizer contains another one.")
    tasks: dict[tuple[str, str], list[str]] = {}
    for whole, part, task in found:
        tasks.setdefault((whole, part), []).append(task)
    why = {True: "searched: its space or its trials are too small", False: "fixed: more trials search it"}
    tuned = {pair: INCLUSIONS[pair] in searched[pair[0]] for pair in tasks}
    said = (
        f"{whole} is worse than {part} on {', '.join(where)}, and contains it in a limit of {INCLUSIONS[whole, part]},"
        f" {why[tuned[whole, part]]}."
        for (whole, part), where in tasks.items()
    )
    return Light("red" if any(tuned.values()) else "amber", "Inclusion violated", " ".join(said))


def _references(analysis: Analysis) -> Light:
    """Whether this installation reproduces published results."""
    try:
        found: Any = json.loads((analysis.store.folder / VERIFIED).read_text(encoding="utf-8"))
        passed, date, failed = bool(found["passed"]), str(found["date"]), ", ".join(map(str, found["failed"]))
    except FileNotFoundError:
        detail = "Nobody has checked this installation against published results: thalweg verify does."
        return Light("amber", "References not reproduced", detail)
    except (OSError, ValueError, KeyError, TypeError):
        return Light(
            "amber", "References not reproduced", f"{VERIFIED} cannot be understood: run thalweg verify again."
        )
    if not passed:
        return Light("red", "References not reproduced", f"thalweg verify, {date}, failed: {failed}.")
    return Light("green", "References reproduced", f"thalweg verify passed on {date}.")
