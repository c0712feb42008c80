"""The reference models: tensors of realistic shapes with fixed random gradients, and no forward pass.

An optimizer's cost depends on how many tensors there are and how large they are, on nothing else of the network.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Shape = tuple[int, ...]


def transformer(layers: int = 4, width: int = 512, vocabulary: int = 8_000, context: int = 256) -> list[Shape]:
    """The 52 tensors (16.8 M elements) of a pre-norm GPT whose head is tied to its embedding."""
    norm: list[Shape] = [(width,), (width,)]
    attention: list[Shape] = [(3 * width, width), (3 * width,), (width, width), (width,)]
    mlp: list[Shape] = [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    block = [*norm, *attention, *norm, *mlp]
    return [(vocabulary, width), (context, width), *block * layers, *norm]


def small(tensors: int = 300) -> list[Shape]:
    """300 tensors of 64 to 4,096 elements, half of them matrices: the cost of the host, not of the arithmetic."""
    elements = [64 << (i % 7) for i in range(tensors)]
    return [(n,) if i % 2 else (8, n // 8) for i, n in enumerate(elements)]


MODELS: dict[str, Callable[[], list[Shape]]] = {"transformer": transformer, "small": small}


def parameters(
    shapes: list[Shape], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Fresh leaf tensors of these shapes, each with its own random gradient; the same numbers at every call."""
    generator = torch.Generator().manual_seed(0)

    def normal(shape: Shape) -> Tensor:
        return torch.randn(shape, generator=generator).to(device=device, dtype=dtype)

    params = [normal(shape).requires_grad_() for shape in shapes]
    for p in params:
        p.grad = normal(tuple(p.shape))
    return params


def elements(shapes: list[Shape]) -> int:
    """The number of elements in all tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes)
