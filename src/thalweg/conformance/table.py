"""The table: every check on every rule, strategy and dtype, the worst of a rule's forms in each cell."""

from __future__ import annotations

import math
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import torch

from thalweg.conformance.checks import CHECKS, ROUNDING, Case, bound
from thalweg.conformance.sharded import sharded
from thalweg.conformance.specs import SPECS
from thalweg.conformance.trial import STRATEGIES, double_by_default
from thalweg.core.strategy import compiler_missing

SHARDED = "FSDP2"
COLUMNS = (*CHECKS, SHARDED)
RULES = tuple(dict.fromkeys(spec.name for spec in SPECS))


@dataclass(frozen=True)
class Cell:
    """What a check found: the largest error over the forms, the bound on it, and what prevented a measurement."""

    error: float
    bound: float
    form: str  # with the largest error
    problem: str = ""
    skipped: bool = False  # this machine lacks what the check needs; the problem says what

    @property
    def passed(self) -> bool:
        """Whether the promise is kept; a NaN is no error that is small."""
        return self.skipped or (not self.problem and self.error <= self.bound)


@dataclass(frozen=True)
class Row:
    """A rule under a strategy for a dtype."""

    rule: str
    strategy: str
    dtype: str
    forms: int
    oracles: tuple[str, ...]
    cells: dict[str, Cell]

    @property
    def passed(self) -> bool:
        """Whether every cell is."""
        return all(cell.passed for cell in self.cells.values())


def rows(rules: Sequence[str] = RULES, device: str = "cpu", jobs: int = 1) -> Iterator[list[Row]]:
    """The rows of one rule after another, as they are done; ``jobs`` rules are worked on at a time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(jobs, len(rules)), mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for done in as_completed([pool.submit(examine, rule, device) for rule in rules]):
            yield done.result()


def examine(rule: str, device: str = "cpu") -> list[Row]:
    """The rows of one rule.

    Where a form costs seconds to compile, or differs from float32 by a rounding alone, the plain form stands for the rule;
    the tests compile them all.
    """
    specs = [spec for spec in SPECS if spec.name == rule]
    cases: dict[tuple[str, torch.dtype], list[Case]] = {}
    for run in STRATEGIES:
        for dtype in ROUNDING:
            forms = specs[:1] if run == "compiled" or dtype.itemsize == 2 else specs
            cases[run, dtype] = [Case(spec, run, dtype, device) for spec in forms]
    with double_by_default():
        alone = {
            place: {name: _worst([_measured(name, check, case) for case in group]) for name, check in CHECKS.items()}
            for place, group in cases.items()
        }
    # Last: two processes would compile at the same time what the checks above leave to be found.
    over_processes = _over_processes([case for group in cases.values() for case in group])
    return [
        _row(group, alone[place] | {SHARDED: _worst([over_processes[case] for case in group])})
        for place, group in cases.items()
    ]


def _row(cases: list[Case], cells: dict[str, Cell]) -> Row:
    first = cases[0]
    oracles = tuple(dict.fromkeys(case.spec.oracle_name for case in cases))
    return Row(first.spec.name, first.run, str(first.dtype).removeprefix("torch."), len(cases), oracles, cells)


def _measured(name: str, check: Callable[[Case], float], case: Case) -> Cell:
    limit = bound(name, case)
    if lacking := _lacking(case):
        return Cell(math.nan, limit, case.spec.id, lacking, skipped=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", module="thalweg")  # a strategy that gives way to another is no success
            return Cell(check(case), limit, case.spec.id)
    except Exception as error:  # whatever it is, it belongs in the table
        return Cell(math.nan, limit, case.spec.id, f"{type(error).__name__}: {error}")


def _over_processes(cases: list[Case]) -> dict[Case, Cell]:
    lacking = {case: _lacking(case) or _no_processes() for case in cases}
    able = [case for case in cases if not lacking[case]]
    try:
        found = dict(zip(able, sharded(able), strict=True)) if able else {}
        problem = ""
    except Exception as error:
        found, problem = {}, f"{type(error).__name__}: {error}"
    return {
        case: Cell(
            found.get(case, math.nan),
            bound(SHARDED, case),
            case.spec.id,
            lacking[case] or problem,
            skipped=bool(lacking[case]),
        )
        for case in cases
    }


def _worst(cells: list[Cell]) -> Cell:
    return next((c for c in cells if not c.passed), max(cells, key=lambda c: c.error))


def _lacking(case: Case) -> str:
    return (compiler_missing(case.device) or "") if case.run == "compiled" else ""


def _no_processes() -> str:
    import torch.distributed as dist

    available = dist.is_available() and dist.is_gloo_available()
    return "" if available else "torch was built without torch.distributed and gloo"
