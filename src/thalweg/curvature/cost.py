"""What work with a loss costs, in one unit: the gradient-equivalent, one forward and one backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable


@dataclass
class Cost:
    """How often a step evaluated its loss: by value alone, with the gradient, and by products with the curvature."""

    values: int = 0
    gradients: int = 0
    products: int = 0

    @property
    def gradient_equivalents(self) -> Fraction:
        """⅓ a value, as a backward pass does twice the work of a forward pass; 1 a gradient; 2 a product.

        A product goes forward and back through the graph of a gradient (Pearlmutter 1994: about two gradients); with that
        graph built once, 1.3 gradients were measured for a multilayer perceptron, 2.3 to 2.4 for a convolutional network
        and a transformer.  Thirds are kept exact, so that sums of them can be compared with a budget.
        """
        return Fraction(self.values, 3) + self.gradients + 2 * self.products


@runtime_checkable
class CountsCost(Protocol):
    """An optimizer whose ``step`` takes a loss function without backward, and which tells what its last step used."""

    used: Cost
