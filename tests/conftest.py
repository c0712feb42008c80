"""Settings every test runs under."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _double_default() -> Iterator[None]:
    """torch's optimizers keep running numbers in the default dtype; in float64 they are an oracle to 1e-12."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tensors where a test can afford it."""
    from thalweg.core import execute

    monkeypatch.setattr(execute, "PIECE", {"cpu": 10_000})
