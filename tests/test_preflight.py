"""Preflight: each finding appears where it should, says why, and is absent from a setup that is in order."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import thalweg
from thalweg.preflight import Finding, PreflightWarning, preflight
from thalweg.routing import route


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.hidden = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 20)


def by_dimension(model: nn.Module, decay: float = 0.1) -> list[dict[str, Any]]:
    """Groups as they are written by hand: weight decay for matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def found(model: nn.Module, optimizer: torch.optim.Optimizer, **more: Any) -> list[Finding]:
    """The findings, each of which must also be a warning that gives reason and remedy."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        findings = preflight(model, optimizer, **more)
    said = [w for w in caught if issubclass(w.category, PreflightWarning)]
    assert [str(w.message) for w in said] == [str(f) for f in findings]
    assert all(w.filename == __file__ for w in said)
    assert all(f.reason in str(f) and f.remedy in str(f) for f in findings)
    return findings


def test_nothing_is_found_where_all_is_in_order() -> None:
    model = Model()
    assert found(model, torch.optim.AdamW(by_dimension(model))) == []
    assert found(model, thalweg.AdamW(by_dimension(model))) == []


def test_a_routed_model_is_in_order() -> None:
    model = Model()
    assert found(model, thalweg.Mixed(route(model))) == []


def test_parameters_in_no_group() -> None:
    model = Model()
    (finding,) = found(model, torch.optim.AdamW([model.embed.weight, model.hidden.weight, model.head.weight]))
    assert finding.what == "parameters in no group"
    assert finding.parameters == ("hidden.bias", "norm.weight", "norm.bias", "head.bias")
    model.norm.requires_grad_(False)
    (finding,) = found(model, torch.optim.AdamW([model.embed.weight, model.hidden.weight, model.head.weight]))
    assert finding.parameters == ("hidden.bias", "head.bias")


def test_parameters_of_another_model() -> None:
    model = Model()
    optimizer = torch.optim.AdamW(by_dimension(model))
    model.head.weight = nn.Parameter(torch.zeros(20, 16))
    missing, foreign = found(model, optimizer)
    assert missing.parameters == ("head.weight",)
    assert (foreign.what, foreign.parameters) == ("parameters that are not the model's", ("parameter 2 of group 0",))


def test_parameters_in_two_groups() -> None:
    model = Model()
    optimizer = torch.optim.AdamW(by_dimension(model))
    optimizer.param_groups[1]["params"].append(model.norm.weight)
    (finding,) = found(model, optimizer)
    assert (finding.what, finding.parameters) == ("parameters listed twice", ("norm.weight",))


def test_frozen_parameters() -> None:
    model = Model()
    model.embed.requires_grad_(False)
    (finding,) = found(model, torch.optim.AdamW(by_dimension(model)))
    assert (finding.what, finding.parameters) == ("frozen parameters in the optimizer", ("embed.weight",))


def test_decay_on_norms_and_biases() -> None:
    model = Model()
    (finding,) = found(model, torch.optim.AdamW(model.parameters(), weight_decay=0.1))
    assert finding.what == "weight decay on norms and biases"
    assert finding.parameters == ("hidden.bias", "norm.weight", "norm.bias", "head.bias")


@pytest.mark.parametrize("cls", [torch.optim.AdamW, thalweg.AdamW])
def test_no_decay_anywhere(cls: Any) -> None:
    model = Model()
    (finding,) = found(model, cls(model.parameters(), weight_decay=0.0))
    assert finding.what == "weight decay is zero everywhere"


def test_muon_on_what_is_no_hidden_matrix() -> None:
    model = Model()
    muon = torch.optim.Muon([p for p in model.parameters() if p.ndim > 1])
    missing, embedding, head = found(model, muon)
    assert missing.what == "parameters in no group"
    assert (embedding.what, embedding.parameters) == ("Muon on an embedding", ("embed.weight",))
    assert (head.what, head.parameters) == ("Muon on a head", ("head.weight",))


def muon_groups(model: Model, **keys: Any) -> torch.optim.Optimizer:
    """An optimizer of both rules, as far as its groups go."""
    vectors = [model.hidden.bias, *model.norm.parameters(), model.head.bias]
    return torch.optim.AdamW([
        {"params": [model.hidden.weight], "optimizer": "muon", **keys},
        {"params": [model.embed.weight, model.head.weight], "optimizer": "adamw", "clip": 1.0},
        {"params": vectors, "optimizer": "adamw", "weight_decay": 0.0},
    ])  # fmt: skip


@pytest.mark.parametrize("clip", [1.0, ("norm", 1.0), ("value", 0.1)])
def test_clipping_before_orthogonalisation(clip: Any) -> None:
    model = Model()
    (finding,) = found(model, muon_groups(model, clip=clip))
    assert finding.what == f"clip={clip!r} on updates that are orthogonalised"
    assert finding.parameters == ("hidden.weight",)
    assert ("direction" in finding.reason) == (clip == ("value", 0.1))
    assert found(model, muon_groups(model, clip=None)) == []


def test_a_schedule_on_a_schedule_free_optimizer() -> None:
    schedulefree = pytest.importorskip("schedulefree")
    model = Model()
    optimizer = schedulefree.AdamWScheduleFree(by_dimension(model))
    assert found(model, optimizer) == []
    (finding,) = found(model, optimizer, scheduler=object())
    assert finding.what == "a learning rate schedule on a schedule-free optimizer"
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    assert found(model, optimizer) == [finding]


@pytest.mark.parametrize("average", ["schedule_free", ("schedule_free", 0.9)])
def test_a_schedule_on_an_average_of_ours(average: Any) -> None:
    model = Model()
    optimizer = torch.optim.AdamW(by_dimension(model))
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    assert found(model, optimizer) == []
    optimizer.param_groups[0]["average"] = average
    (finding,) = found(model, optimizer)
    assert finding.what == "a learning rate schedule on a schedule-free optimizer"


def constant(value: float) -> Model:
    model = Model().bfloat16()
    for p in model.parameters():
        nn.init.constant_(p, value)
    return model


# bfloat16 has 8 significant bits: between 0.5 and 1 its numbers lie 2⁻⁸ apart, and less than 2⁻⁹ is rounded away.
@pytest.mark.parametrize(("lr", "stuck"), [(2.0**-9 * 0.9, True), (2.0**-9 * 1.1, False)])
def test_a_step_that_rounding_discards(lr: float, stuck: bool) -> None:
    model = constant(0.75)
    findings = found(model, torch.optim.AdamW(by_dimension(model), lr=lr))
    assert [f.what for f in findings] == [f"lr={lr:g} is too small to move bfloat16 weights"] * 2 * stuck
    assert all("100%" in f.reason for f in findings)


def test_stochastic_rounding_discards_nothing() -> None:
    model = constant(0.75)
    assert found(model, thalweg.AdamW(by_dimension(model), lr=1e-5)) == []
    assert len(found(model, thalweg.AdamW(by_dimension(model), lr=1e-5, precision="nearest"))) == 2


def test_the_step_of_muon_is_the_mean_element_of_an_orthogonal_matrix() -> None:
    """‖Q‖_F² = 16 for 16 × 16, so an element is 1/4 in the root mean square; here, 2⁻⁹ at lr = 2⁻⁷."""
    model = constant(0.75)
    others = [
        {"params": [p for n, p in model.named_parameters() if n != "hidden.weight"], "lr": 1.0, "weight_decay": 0.0}
    ]
    for lr, stuck in ((2.0**-7 * 0.9, True), (2.0**-7 * 1.1, False)):
        groups = [{"params": [model.hidden.weight], "optimizer": "muon", "lr": lr}, *others]
        findings = found(model, torch.optim.AdamW(groups))
        assert [f.parameters for f in findings] == [("hidden.weight",)] * stuck


def test_the_peak_of_a_schedule_counts() -> None:
    model = constant(0.75)
    optimizer = torch.optim.AdamW(by_dimension(model), lr=1e-5)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=10)
    assert found(model, optimizer) == []


def test_sgd_says_nothing_of_its_step() -> None:
    model = constant(0.75)
    assert found(model, torch.optim.SGD(by_dimension(model), lr=1e-5)) == []


def test_a_group_without_a_learning_rate_of_its_own() -> None:
    """As Adafactor's, which is relative."""
    model = constant(0.75)
    optimizer = torch.optim.SGD(by_dimension(model), lr=1e-5)
    for group in optimizer.param_groups:
        group["lr"] = None
    assert found(model, optimizer) == []


def test_small_weights_move() -> None:
    model = constant(math.ldexp(0.75, -12))
    assert found(model, torch.optim.AdamW(by_dimension(model), lr=1e-5)) == []


def test_many_parameters_are_not_all_listed() -> None:
    finding = Finding("what", "why", "Do", tuple("abcdef"))
    assert str(finding) == "what (a, b, c, d and 2 more): why.  Do."
