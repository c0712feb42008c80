"""The matrix of a loss over a whole data set, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from thalweg.curvature.cost import Cost
from thalweg.curvature.nested import tensors
from thalweg.curvature.operators import LossOperator, Operator
from thalweg.curvature.quiet import RandomNumbers

Batch = TypeVar("Batch")


class OverBatches(Operator):
    """``Σ nᵢ Aᵢ / Σ nᵢ``, Aᵢ of a batch with nᵢ examples: the matrix of the mean loss of all examples.

    ``over_batches(lambda batch: hessian(lambda: loss(model, batch), model), loader)``

    No graph is kept: every product goes through the data, and evaluates each batch anew, so that memory is that of one batch.
    Every time the data are drawn with the same random numbers, and the generators are left as they were.

    Args:
        operator_of: the operator of a batch.
        batches: what can be gone through again and again: a list, a ``DataLoader``.
        examples: how many examples a batch has; None: the length of its first tensor.

    Attributes:
        loss, gradient: means over all examples.
        source: names and parameters.

    Raises:
        TypeError: batches that can be gone through only once.
        ValueError: no batches, a batch without tensors, or, at a product, data that are not what they were.
    """

    method = "batch by batch"

    def __init__(
        self,
        operator_of: Callable[[Batch], LossOperator],
        batches: Iterable[Batch],
        examples: Callable[[Batch], int] | None = None,
    ) -> None:
        if isinstance(batches, Iterator):
            raise TypeError(
                f"over_batches: batches is a {type(batches).__name__}, which can be gone through only once; pass a list or a"
                " DataLoader."
            )
        self.operator_of, self.batches, self.examples = operator_of, batches, examples or length
        self.cost = Cost()
        self.start = RandomNumbers.everywhere()
        self.count, self.loss, self.gradient = 0, torch.zeros(()), torch.zeros(())
        for n, A in self._operators():
            self.source, self.space = A.source, A.space
            self.count += n
            self.loss, self.gradient = self.loss + n * A.loss, self.gradient + n * A.gradient
        if not self.count:
            raise ValueError("over_batches: batches has no examples.")
        self.loss, self.gradient = self.loss / self.count, self.gradient / self.count

    def product(self, v: Tensor) -> Tensor:
        """The mean of the batches' products."""
        total, count, loss = torch.zeros_like(v), 0, torch.zeros(())
        for n, A in self._operators():
            total.add_(A.matvec(v), alpha=n)
            count, loss = count + n, loss + n * A.loss
        if count != self.count or not torch.allclose(loss / count, self.loss, rtol=1e-4):
            raise ValueError(
                f"over_batches: {count} examples with a mean loss of {loss.item() / max(count, 1):g}, where there were"
                f" {self.count} with {self.loss.item():g}: batches must be the same data every time."
            )
        return total.div_(count)

    def _operators(self) -> Generator[tuple[int, LossOperator]]:
        """Every batch's examples and operator; what they cost is added up."""
        before = RandomNumbers(self.start.devices)
        self.start.restore()
        try:
            for batch in self.batches:
                A = self.operator_of(batch)
                yield self.examples(batch), A
                self.cost.values += A.cost.values
                self.cost.gradients += A.cost.gradients
                self.cost.products += A.cost.products
        finally:
            before.restore()


def over_batches(
    operator_of: Callable[[Batch], LossOperator],
    batches: Iterable[Batch],
    examples: Callable[[Batch], int] | None = None,
) -> OverBatches:
    """The matrix of the mean loss over all examples of a data set; see ``OverBatches``."""
    return OverBatches(operator_of, batches, examples)


def length(batch: Any) -> int:
    """The length of a batch's first tensor."""
    first = next(tensors(batch), None)
    if first is None or not first.ndim:
        raise ValueError(
            f"over_batches: a batch of type {type(batch).__name__} has no tensor whose length is the number of examples; say"
            " how many with examples=."
        )
    return len(first)
