"""Every rule, under every strategy, takes the steps of its oracle."""

from __future__ import annotations

import pytest
import torch

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.checks import Case, bound, oracle
from thalweg.conformance.trial import STRATEGIES


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("run", STRATEGIES)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)
def test_equals_its_oracle(spec: Spec, run: str, dtype: torch.dtype) -> None:
    case = Case(spec, run, dtype)
    assert oracle(case) <= bound("oracle", case)


def test_every_rule_of_the_registry_has_a_spec() -> None:
    second_order = {"lbfgs", "newton_cg"}  # no rules of a gradient: they take a loss function
    assert {spec.name for spec in SPECS} | second_order == set(thalweg.list_optimizers())
