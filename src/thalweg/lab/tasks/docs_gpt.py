"""A character language model on the text of Python's own documentation topics (the text behind ``help("for")``)."""

import hashlib
from collections.abc import Iterator
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor

from thalweg.lab.models import GPT
from thalweg.lab.tasks.task import Batch, Metric, Task

CONTEXT = 32
BATCH = 16
HELD_OUT_WINDOWS, PROBE_WINDOWS = 128, 32
VALIDATION, TEST = 0.1, 0.1


def cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean negative log-likelihood a character, in nats."""
    return F.cross_entropy(logits.flatten(0, -2), tokens.flatten())


def docs_gpt_task() -> Task:
    """Predict the next character of Python's documentation by a two-layer GPT.

    The text changes with the Python version; its hash is part of the contract.
    """
    text = "\n".join(topics[name] for name in sorted(topics))
    alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([alphabet[character] for character in text])
    first, second = int(len(text) * (1 - VALIDATION - TEST)), int(len(text) * (1 - TEST))
    train, validation, test = tokens[:first], tokens[first:second], tokens[second:]

    def sample(generator: torch.Generator) -> Iterator[Batch]:
        while True:
            yield windows(train, torch.randint(len(train) - CONTEXT, (BATCH,), generator=generator))

    return Task(
        name="docs-gpt",
        summary="next character of Python's documentation, 2-layer GPT",
        build=lambda: GPT(len(alphabet), CONTEXT, width=32, heads=2, layers=2),
        sample=sample,
        loss=cross_entropy,
        metric=Metric("cross-entropy", "nats/char", "min", margin=0.02, measure=cross_entropy),
        probe=windows(train, spread(train, PROBE_WINDOWS)),
        validation=windows(validation, spread(validation, HELD_OUT_WINDOWS)),
        test=windows(test, spread(test, HELD_OUT_WINDOWS)),
        batch_size=BATCH,
        budget=300,
        data_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
    )


def windows(tokens: Tensor, starts: Tensor) -> Batch:
    """Cut windows of `CONTEXT` characters, and the same moved one on, both (len(starts), CONTEXT)."""
    rows = tokens[starts[:, None] + torch.arange(CONTEXT + 1)]
    return rows[:, :-1], rows[:, 1:]


def spread(tokens: Tensor, count: int) -> Tensor:
    """Return evenly spaced starts of windows."""
    return torch.linspace(0, len(tokens) - CONTEXT - 1, count).long()
