"""A character language model on the text of Python's own documentation topics (the text behind ``help("for")``)."""

import hashlib
from pydoc_data.topics import topics

from thalweg.lab.models import GPT
from thalweg.lab.tasks.task import Task
from thalweg.lab.tasks.text import encode, language_task, numbered

CONTEXT = 32
BATCH = 16
HELD_OUT_WINDOWS = 128
VALIDATION, TEST = 0.1, 0.1


def docs_gpt_task() -> Task:
    """Predict the next character of Python's documentation by a two-layer GPT.

    The text changes with the Python version; its hash is part of the contract.
    """
    text = "\n".join(topics[name] for name in sorted(topics))
    alphabet = numbered(text)
    tokens = encode(text, alphabet)
    first, second = int(len(text) * (1 - VALIDATION - TEST)), int(len(text) * (1 - TEST))
    train, validation, test = tokens[:first], tokens[first:second], tokens[second:]
    return language_task(
        (train, validation, test),
        CONTEXT,
        HELD_OUT_WINDOWS,
        "nats/char",
        name="docs-gpt",
        summary="next character of Python's documentation, 2-layer GPT",
        build=lambda: GPT(len(alphabet), CONTEXT, width=32, heads=2, layers=2),
        batch_size=BATCH,
        budget=300,
        data_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
    )
