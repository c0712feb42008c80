"""Language models' data: a row of tokens, cut into windows whose targets are the same moved one on."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.lab.tasks.task import Batch, Metric, Task

PROBE_WINDOWS = 32


def cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean negative log-likelihood a token, in nats."""
    return F.cross_entropy(logits.flatten(0, -2), tokens.flatten())


def cross_entropies(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean negative log-likelihood a token of each window, (N,), in nats."""
    return F.cross_entropy(logits.movedim(-1, 1), tokens, reduction="none").mean(-1)


def numbered(symbols: Sequence[str]) -> dict[str, int]:
    """Number the different symbols in their order."""
    return {symbol: number for number, symbol in enumerate(sorted(set(symbols)))}


def encode(symbols: Sequence[str], numbers: dict[str, int]) -> Tensor:
    """Replace each symbol by its number."""
    return torch.tensor([numbers[symbol] for symbol in symbols])


def windows(tokens: Tensor, starts: Tensor, context: int) -> Batch:
    """Cut windows of `context` tokens, and the same moved one on, both (len(starts), context)."""
    rows = tokens[starts[:, None] + torch.arange(context + 1)]
    return rows[:, :-1], rows[:, 1:]


def spread_windows(tokens: Tensor, count: int, context: int) -> Batch:
    """Cut evenly spaced windows."""
    return windows(tokens, torch.linspace(0, len(tokens) - context - 1, count).long(), context)


def random_windows(tokens: Tensor, context: int) -> Callable[[torch.Generator, int], Iterator[Batch]]:
    """Return a sampler of windows that start anywhere, independently."""

    def sample(generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        while True:
            starts = torch.randint(len(tokens) - context, (batch_size,), generator=generator)
            yield windows(tokens, starts, context)

    return sample


def language_task(splits: Sequence[Tensor], context: int, held_out: int, unit: str, **rest: Any) -> Task:
    """Make the task of predicting the next token.

    Args:
        splits: tokens to train on, of validation and of the test, each (length,).
        context: tokens a window.
        held_out: windows of validation and of the test, evenly spaced.
        unit: of the cross-entropy that it is judged by, such as ``nats/char``.
        rest: the other fields of `Task`.
    """
    train, validation, test = splits
    return Task(
        sample=random_windows(train, context),
        loss=cross_entropy,
        metric=Metric("cross-entropy", unit, "min", margin=0.02, measure=cross_entropies),
        probe=spread_windows(train, PROBE_WINDOWS, context),
        validation=spread_windows(validation, held_out, context),
        test=spread_windows(test, held_out, context),
        **rest,
    )
