"""The noisy quadratic model of training with mini-batches.  Zhang et al. 2019, arXiv:1907.04164, sect. 3"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from thalweg.lab.tasks.task import Batch, Metric, Task, hash_tensors

DIMENSIONS = 1000
BATCH = 16


class Point(nn.Module):
    """A point θ, and its loss under the noise of each example: ``½ Σ hᵢθᵢ² + Σ √hᵢ θᵢ ξᵢ``."""

    def __init__(self, curvature: Tensor):
        super().__init__()
        self.theta = nn.Parameter(torch.randn(len(curvature)))
        self.curvature: Tensor
        self.register_buffer("curvature", curvature)

    def forward(self, noise: Tensor) -> Tensor:
        """Map noise ξ (N, d) to losses (N,)."""
        return 0.5 * self.curvature @ self.theta.square() + noise @ (self.curvature.sqrt() * self.theta)


def quadratic_task() -> Task:
    """Minimize a quadratic whose curvatures are hᵢ = 1/i, with gradient noise of variance hᵢ an example.

    The start is standard normal, the noise vanishes in expectation, and so the held-out loss is exact: one example without
    noise. A batch of B has noise of variance hᵢ/B: sect. 3.1 there, with d = 1,000 in place of 10,000.
    """
    curvature = 1 / torch.arange(1, DIMENSIONS + 1)
    held_out = torch.zeros(1, DIMENSIONS), torch.zeros(1)
    return Task(
        name="noisy-quadratic",
        summary=f"quadratic of {DIMENSIONS} dimensions, curvatures 1/i and gradient noise of the same variance",
        build=lambda: Point(curvature.clone()),
        sample=noise,
        loss=lambda losses, _: losses.mean(),
        metric=Metric("expected loss", "units", "min", margin=0.005, measure=lambda losses, _: losses),
        probe=held_out,
        validation=held_out,
        test=held_out,
        batch_size=BATCH,
        budget=1000,
        data_hash=hash_tensors(curvature),
    )


def noise(generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
    """Draw standard normal noise for each example; there is nothing to be met, the targets are zeros."""
    while True:
        yield torch.randn(batch_size, DIMENSIONS, generator=generator), torch.zeros(batch_size)
