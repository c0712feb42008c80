"""Every rule, under every strategy, takes the steps of its oracle."""

from __future__ import annotations

import pytest
import torch

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.trial import STRATEGIES, error, parameters, run_together

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("run", STRATEGIES)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)
def test_equals_its_oracle(spec: Spec, run: str, dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    optimizer = thalweg.create(spec.name, ours, lr=spec.lr, run=run, **spec.kwargs)
    oracle = spec.oracle(theirs, lr=spec.lr, **spec.oracle_kwargs)
    run_together([(optimizer, ours), (oracle, theirs)], steps=100)
    assert error(ours, theirs) <= TOLERANCE[dtype]


def test_every_rule_of_the_registry_has_a_spec() -> None:
    of_torch = {"lbfgs"}  # torch's own class
    assert {spec.name for spec in SPECS} | of_torch == set(thalweg.list_optimizers())
