"""A study of robustness as plain data, for ``--json``."""

from thalweg.lab.analysis import Analysis
from thalweg.lab.lights import lights
from thalweg.lab.plain import Json, plain
from thalweg.lab.robustness.outcome import headlines, rows
from thalweg.lab.robustness.sweep import panels


def summary(analysis: Analysis) -> Json:
    """Return the rows, what they come to and the lights. Infinities are null: the loss of runs that diverged."""
    contract = analysis.store.contract
    found = rows(panels(analysis))
    return plain(
        {
            "study": str(analysis.store.folder),
            "contract": contract.hash,
            "complete": analysis.complete,
            "runs": {"done": len(analysis.runs), "total": contract.runs},
            "rows": found,
            "headlines": headlines(found),
            "lights": lights(analysis),
        }
    )
