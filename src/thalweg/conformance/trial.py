"""What every check starts from: parameters of awkward shapes, the same gradients for several optimizers, one error measure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# 0-D, one element, one column, kernels, and sizes on both sides of what is joined and what is cut into pieces.
SHAPES = [(), (1,), (7,), (4, 1), (8, 5), (2, 3, 3, 3), (0, 3), (13, 1300), (40_000,)]
STRATEGIES = ("each", "foreach", "compiled")


def parameters(
    dtype: torch.dtype = torch.float64, shapes: Sequence[tuple[int, ...]] = SHAPES, device: str = "cpu"
) -> list[Tensor]:
    """Parameters with the same values on every call."""
    generator = torch.Generator().manual_seed(0)
    draw: list[Tensor] = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    return [nn.Parameter(x.to(device=device, dtype=dtype)) for x in draw]


def give_gradients(rows: Sequence[Sequence[Tensor]], generator: torch.Generator) -> None:
    """The same gradient for all parameters of a row: noise around a slope, so that averages and signs both matter."""
    for members in rows:
        noise = torch.randn(members[0].shape, generator=generator, dtype=torch.float64)
        for p in members:
            p.grad = (noise + 0.5).to(p.device, p.dtype)


def run_together(runs: Sequence[tuple[Optimizer, Sequence[Tensor]]], steps: int, seed: int = 1) -> None:
    """Step all optimizers from the same gradients."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        give_gradients(list(zip(*(params for _, params in runs), strict=True)), generator)
        for optimizer, _ in runs:
            optimizer.step()


def error(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Largest relative difference in norm over the tensors; NaN if one is not finite where the other is."""
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(ours, theirs, strict=True) if a.numel()]
    # Published forms make NaN and infinity of some shapes and in some dtypes, as they should.
    alike = [(a, b, ~a.isfinite() & ((a == b) | a.isnan() & b.isnan())) for a, b in pairs]
    pairs = [(a.masked_fill(same, 1.0), b.masked_fill(same, 1.0)) for a, b, same in alike]
    return torch.stack([torch.dist(a, b) / torch.linalg.vector_norm(b) for a, b in pairs]).max().item()


@contextmanager
def double_by_default() -> Generator[None]:
    """torch's optimizers keep running numbers in the default dtype; in float64 they are an oracle to 1e-12."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
