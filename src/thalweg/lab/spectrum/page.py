"""A recording as one self-contained HTML file, and as the plain data in it."""

import dataclasses
from pathlib import Path
from typing import Any

from thalweg.control import Decision
from thalweg.lab.environment import environment
from thalweg.lab.page import write_page
from thalweg.lab.plain import plain
from thalweg.lab.spectrum.decisions import MEANINGS, columns, price, rates, shares
from thalweg.lab.spectrum.record import Probe, Recording
from thalweg.lab.spectrum.run import LANCZOS_STEPS, MINI_BATCHES, TOLERANCE, VECTORS
from thalweg.lab.spectrum.show import cost, place, verdict


def write_spectrum(path: Path, recording: Recording) -> Path:
    """Write the page and return its path.

    Raises:
        UserError: the file cannot be written.
    """
    return write_page(path, f"--output {path}", "spectrum", view=view(recording), data=plain(as_data(recording)))


def as_data(recording: Recording) -> dict[str, Any]:
    """All that was seen."""
    request = recording.request
    return {
        "task": request.task.name,
        "optimizer": request.entry.name,
        "keywords": dict(request.keywords),
        "parameters": recording.parameters,
        "state": recording.state,
        "steps": len(recording.losses),
        "probe_examples": len(request.task.probe[0]),
        "why_no_threshold": recording.why_no_threshold,
        "settled_ratio": recording.settled_ratio,
        "probes": [dataclasses.asdict(probe) for probe in recording.probes],
        "losses": recording.losses,
        "portraits": [dataclasses.asdict(portrait) for portrait in recording.portraits],
        "cost": {
            "products": recording.products,
            "probing_seconds": round(recording.probing_seconds, 3),
            "training_seconds": round(recording.training_seconds, 3),
        },
        "command": request.command,
        "environment": environment().model_dump(),
        **({"decisions": columns(recording.decisions, recording.thresholds)} if recording.decisions else {}),
    }


def view(recording: Recording) -> dict[str, Any]:
    """What the template says in words."""
    request, ratio = recording.request, recording.settled_ratio
    return {
        "title": f"{request.entry.name} on {request.task.name}",
        "rule": request.rule,
        "task": request.task.summary,
        "parameters": f"{recording.parameters:,}",
        "batch": request.task.batch_size,
        "verdict": verdict(recording),
        "notes": recording.notes,
        "governed": request.entry.steering is not None,
        "control": _control(recording.decisions) if recording.decisions else None,
        "place": "unknown" if ratio is None else place(ratio),
        "tiles": list(_tiles(recording)),
        "examples": f"{len(request.task.probe[0]):,}",
        "why_no_threshold": recording.why_no_threshold,
        "has_batch_sharpness": any(probe.batch_sharpness is not None for probe in recording.probes),
        "eigenvalues": _eigenvalues(recording.probes[-1]),
        "layers": _layers(recording),
        "portraits": [portrait.step for portrait in recording.portraits],
        "tolerance": f"{TOLERANCE:.0%}",
        "vectors": VECTORS,
        "lanczos_steps": LANCZOS_STEPS,
        "mini_batches": MINI_BATCHES,
        "cost": cost(recording),
        "command": request.command,
        "environment": environment(),
        "last": recording.probes[-1].step,
    }


def _control(decisions: list[Decision]) -> dict[str, Any]:
    """What a controller did, in words."""
    return {
        "rates": rates(decisions),
        "price": price(decisions),
        "shares": [(name, f"{share:.1%}", MEANINGS.get(name, "")) for name, share in shares(decisions)],
    }


def _tiles(recording: Recording) -> list[tuple[str, str, str]]:
    """(what, how much, of what) of the run's end."""
    last, first = recording.probes[-1], recording.probes[0]
    tiles: list[tuple[str, str, str]] = []
    if edge := last.edge:
        tiles += [
            ("sharpness", number(edge.sharpness), f"at step {last.step}"),
            ("threshold", number(edge.threshold), "above it steps grow"),
            ("ratio", f"{edge.ratio:.3f}", f"± {edge.residual:.1g}; 1 is the edge of stability"),
        ]
    else:
        tiles.append(
            ("λ₁ of the Hessian", number(last.eigenvalues[0]), f"± {last.residuals[0]:.1g}, at step {last.step}")
        )
    tiles.append(("loss", number(last.loss), f"from {number(first.loss)}, on the probe batch"))
    if recording.portraits:
        end = recording.portraits[-1]
        tiles.append(
            ("trace", number(end.trace), f"± {number(end.trace_error)}, sum of all eigenvalues at step {end.step}")
        )
    return tiles


def _eigenvalues(probe: Probe) -> list[tuple[str, str]]:
    pairs = zip(probe.eigenvalues, probe.residuals, strict=True)
    return [(number(value), f"{residual:.1g}") for value, residual in pairs]


def _layers(recording: Recording) -> list[tuple[str, list[str]]]:
    portraits = recording.portraits
    return [(name, [number(p.layers[name]) for p in portraits]) for name in (portraits[0].layers if portraits else ())]


def number(x: float) -> str:
    """Say a number with four digits and a true minus sign."""
    return (f"{x:,.0f}" if 1e4 <= abs(x) < 1e7 else f"{x:.4g}").replace("-", "−")
