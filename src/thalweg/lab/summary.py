"""A study's outcome as plain data, for ``--json``."""

from typing import Any

from thalweg.lab.analysis import Analysis, Cell
from thalweg.lab.lights import lights
from thalweg.lab.overall import Overall
from thalweg.lab.plain import Json, plain
from thalweg.lab.show import unresolved


def summary(analysis: Analysis) -> Json:
    """Return the verdicts, the lights and what is not resolved. Infinities are null: the value of a failed run, the time of a
    miss, the speed-up over a reference that misses."""
    contract, overall = analysis.store.contract, Overall(analysis)
    return plain(
        {
            "study": str(analysis.store.folder),
            "contract": contract.hash,
            "complete": analysis.complete,
            "runs": {"done": len(analysis.runs), "total": contract.runs},
            "outcomes": [_outcome(analysis, cell) for cell in analysis.cells],
            "improvement": {
                reference: {terms.name: analysis.improvement(terms.name, reference) for terms in contract.optimizers}
                for reference in analysis.references
            },
            "scores": overall.scores,
            "profiles": {found.optimizer: found.area for found in overall.profiles["charged"]},
            "lights": lights(analysis),
            "unresolved": unresolved(analysis),
        }
    )


def _outcome(analysis: Analysis, cell: Cell) -> dict[str, Any]:
    return {
        "task": cell.task.name,
        "optimizer": cell.terms.name,
        "metric": cell.task.metric,
        "median": cell.median,
        "values": [run.result.value for run in cell.finals],
        "test": [run.result.test for run in cell.finals],
        "failures": cell.failures,
        "point": cell.point,
        "also": cell.also,
        "times": cell.times["charged"].medians,
        "against": {reference: analysis.comparison(cell, reference) for reference in analysis.references},
        "speed_up": {reference: analysis.speed_up(cell, reference) for reference in analysis.references},
    }
