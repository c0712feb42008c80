"""Muon, held to the polynomial of its steps on singular values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from thalweg.conformance.loop import Loop
from thalweg.conformance.spec import Spec

QUINTIC = ((3.4445, -4.7750, 2.0315),) * 5
SCALES: dict[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: max(1.0, rows / columns) ** 0.5,
    "match_rms_adamw": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,
    "spectral": lambda rows, columns: (rows / columns) ** 0.5,
}


def orthogonal(m: Tensor, eps: float, steps: Sequence[tuple[float, float, float]] = QUINTIC) -> Tensor:
    """UVᵀ as Newton–Schulz steps find it, on the singular values."""
    u, sigma, v = cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(m, full_matrices=False))
    sigma = sigma / (float((sigma**2).sum()) ** 0.5 + eps)
    for a, b, c in steps:
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    return torch.matmul(u * sigma, v)


class PlainMuon(Loop):
    """Muon, one matrix at a time."""

    def one(
        self,
        s: dict[str, Any],
        p: Tensor,
        g: Tensor,
        t: int,
        mu: float = 0.95,
        w: float = 0.05,
        nesterov: bool = True,
        scale: str = "original",
        wd: float = 0.1,
        eps: float = 1e-7,
        stacked: bool = False,
        transposed: bool = False,
    ) -> None:
        """One step of one parameter."""
        m = s["m"] = mu * s.get("m", torch.zeros_like(g)) + w * g
        u = w * g + mu * m if nesterov else m
        p.mul_(1 - self.lr * wd)
        for target, source in zip(p, u, strict=True) if stacked else ((p, u),):
            matrix: Tensor = source.reshape(len(source), -1)
            matrix = matrix.T if transposed else matrix
            step = SCALES[scale](*matrix.shape) * orthogonal(matrix, eps)
            target.sub_(self.lr * (step.T if transposed else step).reshape(target.shape))


SPECS = [
    Spec("muon", PlainMuon, 1e-3, float32=1e-5, dims=2),
    Spec(
        "muon",
        PlainMuon,
        0.02,
        {"match": "keller", "momentum": 0.8, "nesterov": False, "adjust": "spectral", "eps": 1e-3},
        {"mu": 0.8, "w": 0.2, "nesterov": False, "scale": "spectral", "wd": 0.0, "eps": 1e-3},
        float32=1e-5,
        dims=2,
    ),
    Spec("muon", PlainMuon, 1e-3, {"match": "moonlight"}, {"w": 1.0, "scale": "match_rms_adamw"}, float32=1e-5, dims=2),
    Spec("muon", PlainMuon, 1e-3, {"stacked": True}, {"stacked": True}, float32=1e-5, dims=3),
    Spec("muon", PlainMuon, 1e-3, {"transposed": True}, {"transposed": True}, float32=1e-5, dims=2),
]
