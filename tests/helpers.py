"""What several test files need: parameters of awkward shapes, the same gradients for several optimizers, one error measure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

# 0-D, one element, one column, kernels, and sizes on both sides of what is joined and what is cut into pieces.
SHAPES = [(), (1,), (7,), (4, 1), (8, 5), (2, 3, 3, 3), (0, 3), (130, 130), (40_000,)]
STRATEGIES = ("each", "foreach", "compiled")


def parameters(dtype: torch.dtype = torch.float64, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    return [x.to(dtype).requires_grad_() for x in draw]


def run_together(runs: Sequence[tuple[Optimizer, Sequence[Tensor]]], steps: int, seed: int = 1) -> None:
    """Step all optimizers from the same gradients: noise around a slope, so that averages and signs both matter."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for members in zip(*(params for _, params in runs), strict=True):
            noise = torch.randn(members[0].shape, generator=generator, dtype=torch.float64)
            for p in members:
                p.grad = (noise + 0.5).to(p.dtype)
        for optimizer, _ in runs:
            optimizer.step()


def error(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Largest relative difference in norm over the tensors."""
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(ours, theirs, strict=True) if a.numel()]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)
