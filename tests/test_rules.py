"""Every rule, under every strategy, takes the steps of its oracle."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.checks import Case, bound, oracle
from thalweg.conformance.trial import STRATEGIES


def cases() -> Iterator[Any]:
    """Every form; compiled in float32, which takes as long again, the plain ones, and in a slow run all."""
    for spec, run, dtype in itertools.product(SPECS, STRATEGIES, (torch.float64, torch.float32)):
        again = run == "compiled" and dtype == torch.float32 and bool(spec.kwargs)
        yield pytest.param(spec, run, dtype, id=f"{spec.id}-{run}-{dtype}", marks=[pytest.mark.slow] if again else [])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("spec", "run", "dtype"), list(cases()))
def test_equals_its_oracle(spec: Spec, run: str, dtype: torch.dtype) -> None:
    case = Case(spec, run, dtype)
    assert oracle(case) <= bound("oracle", case)


def test_every_rule_of_the_registry_has_a_spec() -> None:
    not_of_gradients = {"lbfgs", "newton_cg", "dcao", "hidlr"}  # they take a loss function
    assert {spec.name for spec in SPECS} | not_of_gradients == set(thalweg.list_optimizers())
