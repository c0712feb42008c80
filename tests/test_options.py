"""Every option, with every rule and under every strategy, equals its plain form around torch's optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive import Naive
from torch import Tensor

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.trial import STRATEGIES, error, parameters, run_together

OPTIONS: list[dict[str, Any]] = [
    {"clip": ("global_norm", 10.0)},
    {"clip": ("norm", 0.5)},
    {"clip": ("rms", 0.5)},
    {"clip": ("value", 0.5)},
    {"clip": ("adaptive", 0.05)},
    {"centralize": 0.5},
    {"normalize": 0.5},
    {"cautious": True},
    {"decay": "l2", "weight_decay": 0.1},
    {"decay": "decoupled", "weight_decay": 0.1},
    {"decay": "cautious", "weight_decay": 0.1},
    {
        "clip": ("norm", 0.5),
        "centralize": 1.0,
        "normalize": 1.0,
        "cautious": True,
        "decay": "cautious",
        "weight_decay": 0.1,
    },
]
RULES = [s for s in SPECS if not s.kwargs and s.oracle.__module__.startswith("torch.")]  # with options of ours alone


def name(options: dict[str, Any]) -> str:
    return "+".join(f"{k}={v}" for k, v in options.items())


def check(spec: Spec, options: dict[str, Any], run: str) -> None:
    ours, theirs = parameters(), parameters()
    neutral = {"weight_decay": 0.0}
    optimizer = thalweg.create(spec.name, ours, lr=spec.lr, run=run, **(neutral | options))
    kwargs = neutral if spec.name == "adamw" else {}
    naive = Naive(lambda params, lr: spec.oracle(params, lr=lr, **kwargs), theirs, spec.lr, **options)
    run_together([(optimizer, ours), (naive, theirs)], steps=10)
    assert error(ours, theirs) <= 1e-12


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("run", ["each", "foreach"])
@pytest.mark.parametrize("options", OPTIONS, ids=name)
@pytest.mark.parametrize("spec", RULES, ids=lambda spec: spec.id)
def test_equals_the_plain_form(spec: Spec, options: dict[str, Any], run: str) -> None:
    check(spec, options, run)


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_equals_the_plain_form_compiled(options: dict[str, Any]) -> None:
    check(next(spec for spec in RULES if spec.name == "adamw"), options, "compiled")


@pytest.mark.slow  # each pair compiles kernels of its own
@pytest.mark.parametrize("options", OPTIONS, ids=name)
@pytest.mark.parametrize("spec", RULES, ids=lambda spec: spec.id)
def test_equals_the_plain_form_compiled_for_every_rule(spec: Spec, options: dict[str, Any]) -> None:
    check(spec, options, "compiled")


@pytest.mark.parametrize("spec", RULES, ids=lambda spec: spec.id)
def test_all_options_together_compile_for_every_rule(spec: Spec) -> None:
    check(spec, OPTIONS[-1], "compiled")


@pytest.mark.parametrize("run", STRATEGIES)
def test_a_number_for_clip_is_the_global_norm(run: str) -> None:
    ours, theirs = parameters(), parameters()
    pair = [thalweg.AdamW(p, clip=c, run=run) for p, c in ((ours, 0.3), (theirs, ("global_norm", 0.3)))]
    run_together(list(zip(pair, (ours, theirs), strict=True)), steps=3)
    assert error(ours, theirs) == 0


@pytest.mark.parametrize("run", STRATEGIES)
@pytest.mark.parametrize("options", [{}, *OPTIONS[-1:]], ids=["plain", "all"])
def test_gradients_are_never_written(options: dict[str, Any], run: str) -> None:
    for rule in (spec.name for spec in RULES):
        params = parameters()
        optimizer = thalweg.create(rule, params, lr=0.1, run=run if rule == "adamw" else "foreach", **options)
        for p in params:
            p.grad = torch.randn_like(p)
        kept: list[Tensor] = [p.grad.clone() for p in params if p.grad is not None]
        optimizer.step()
        assert all(torch.equal(p.grad, k) for p, k in zip(params, kept, strict=True) if p.grad is not None)
        stored = {s.untyped_storage().data_ptr() for state in optimizer.state.values() for s in state.values()}
        assert not stored & {p.grad.untyped_storage().data_ptr() for p in params if p.grad is not None and p.numel()}


def test_groups_have_options_of_their_own() -> None:
    ours = parameters(shapes=[(5, 4), (6,)])
    theirs = parameters(shapes=[(5, 4), (6,)])
    optimizer = thalweg.Adam(
        [{"params": ours[:1], "cautious": True}, {"params": ours[1:], "lr": 0.5, "clip": ("value", 0.1)}], lr=0.1
    )
    alone = [
        thalweg.Adam(theirs[:1], lr=0.1, cautious=True),
        thalweg.Adam(theirs[1:], lr=0.5, clip=("value", 0.1)),
    ]
    run_together([(optimizer, ours)], steps=5)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        for p in theirs:
            p.grad = torch.randn(p.shape, generator=generator) + 0.5
        for each in alone:
            each.step()
    assert error(ours, theirs) <= 1e-12
