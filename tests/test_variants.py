"""SAVEUS, DOPE, ExMachina and MARS beyond their transcriptions: what the public code gets wrong, sizes, the exact form."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import thalweg
from thalweg.conformance.trial import STRATEGIES, error, parameters, run_together

STABLE = ["saveus", "dope", "exmachina", "mars"]
EDGES = [(5, 7), (6,), (4, 3, 2, 2), (1,), (), (3, 1), (3, 1, 1, 1), (1, 1), (2,), (0, 3)]


@pytest.mark.parametrize("name", ["dope", "exmachina"])
def test_embeddings_that_are_not_used_stay(name: str) -> None:
    """The public DOPE multiplies them by −149 in each step."""
    torch.manual_seed(0)
    embedding = nn.Embedding(50, 16)
    start = embedding.weight.detach().clone()
    optimizer = thalweg.create(name, embedding.parameters())
    for _ in range(300):
        optimizer.zero_grad()
        embedding(torch.randint(0, 25, (32,))).square().sum().backward()
        optimizer.step()
    moved = (embedding.weight.detach() - start)[25:].norm() / start[25:].norm()
    assert moved < 0.01
    assert not torch.equal(embedding.weight[:25], start[:25])


@pytest.mark.parametrize("run", ["each", "foreach"])
@pytest.mark.parametrize("name", STABLE)
def test_no_shape_makes_nan_and_no_gradient_is_written(name: str, run: str) -> None:
    params = parameters(shapes=EDGES)
    optimizer = thalweg.create(name, params, lr=0.01, run=run)
    for scale in (1.0, 0.0, 1e-20, 1e8):
        for p in params:
            p.grad = torch.randn_like(p) * scale
        kept = [p.grad.clone() for p in params if p.grad is not None]
        optimizer.step()
        assert all(torch.equal(p.grad, k) for p, k in zip(params, kept, strict=True))
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize("name", ["dope", "exmachina", "mars"])
def test_the_previous_gradient_is_a_copy(name: str) -> None:
    """Three libraries store p.grad itself, and compare it with itself under zero_grad(set_to_none=False)."""
    params, others = parameters(shapes=[(5, 7)]), parameters(shapes=[(5, 7)])
    kept, fresh = (thalweg.create(name, p, lr=0.01, gamma=0.1) for p in (params, others))
    params[0].grad = torch.zeros_like(params[0])
    for i in range(4):
        g = torch.randn(5, 7, generator=torch.Generator().manual_seed(i))
        params[0].grad.copy_(g)  # in the same memory
        others[0].grad = g
        kept.step()
        fresh.step()
    assert torch.equal(params[0], others[0])


@pytest.mark.parametrize("side", [64, 256, 1024, pytest.param(4096, marks=pytest.mark.slow)])
def test_the_update_of_stable_dope_is_as_large_as_the_learning_rate(side: int) -> None:
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(side, side, dtype=torch.float32))
    optimizer = thalweg.DOPE([p], lr=1e-3, weight_decay=0.0)
    before = p.detach().clone()
    for _ in range(5):
        before = p.detach().clone()
        p.grad = torch.randn_like(p) * 1e-3
        optimizer.step()
    assert 0.5 < (p.detach() - before).square().mean().sqrt() / 1e-3 < 2


def test_variants_that_are_unsafe_say_so() -> None:
    p = [nn.Parameter(torch.ones(3))]
    with pytest.warns(UserWarning, match="by -149 in each step"):
        thalweg.DOPE(p, variant="published")
    with pytest.warns(UserWarning, match="neither corrects nor bounds"):
        thalweg.DOPE(p, variant="equations")
    with pytest.warns(UserWarning, match="divides by the root of v twice"):
        thalweg.SAVEUS(p, variant="equations")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thalweg.DOPE(p, variant="published", weight_decay=0.0)
        thalweg.SAVEUS(p, variant="published")
        for name in STABLE:
            thalweg.create(name, p)


def test_arguments_under_their_names_in_the_source() -> None:
    a, b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = thalweg.DOPE(
        [{"params": [a], "centralization": 0.1, "clip": 0.2}, {"params": [b], "clip": ("value", 1.0)}]
    )
    first, second = optimizer.param_groups
    assert (first["centralize"], first["rms_clip"], first["clip"]) == (0.1, 0.2, None)
    assert (second["centralize"], second["rms_clip"], second["clip"]) == (0.5, 1.0, ("value", 1.0))
    with pytest.raises(
        ValueError, match="variant='printed' is unknown; choose one of 'stable', 'published', 'equations'"
    ):
        thalweg.DOPE([a], variant="printed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="preconditioner to give"):
        thalweg.AdamW([a], decay="preconditioned")


@pytest.mark.parametrize("run", STRATEGIES)
def test_mars_as_an_option_is_its_correction(run: str) -> None:
    ours, theirs = parameters(), parameters()
    optimizer = thalweg.Adam(ours, lr=0.01, mars=0.1, betas=(0.8, 0.99), run=run)
    oracle = torch.optim.Adam(theirs, lr=0.01, betas=(0.8, 0.99))
    last: list[Tensor] = []
    for i in range(6):
        generator = torch.Generator().manual_seed(i)
        given = [torch.randn(p.shape, generator=generator) for p in ours]
        for p, q, g, before in zip(ours, theirs, given, last or given, strict=True):
            p.grad, q.grad = g, g + 0.1 * 0.8 / 0.2 * (g - before)
        last = given
        optimizer.step()
        oracle.step()
    assert error(ours, theirs) <= 1e-12
    assert len({s["previous_grad"].data_ptr() for s in optimizer.state.values()} & {g.data_ptr() for g in last}) <= 1


def test_the_exact_form_compares_two_gradients_of_one_batch() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1))
    reference = copy.deepcopy(model)
    data = torch.randn(5, 32, 6)
    optimizer = thalweg.MARS(model.parameters(), lr=0.05, gamma=0.2, exact=True, optimize_1d=True)

    def loss_of(net: nn.Module, batch: Tensor, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return net(batch).square().mean()

    state = [(torch.zeros_like(p), torch.zeros_like(p)) for p in reference.parameters()]
    before: list[Tensor] = []
    for t, batch in enumerate(data, 1):
        torch.manual_seed(t)

        def closure(batch: Tensor = batch) -> float:
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            return loss.item()

        value = optimizer.step(closure)
        here = [p.detach().clone() for p in reference.parameters()]
        loss = loss_of(reference, batch, t)
        assert value == pytest.approx(loss.item())
        g = torch.autograd.grad(loss, list(reference.parameters()))
        old = g
        if before:
            with torch.no_grad():
                for p, x in zip(reference.parameters(), before, strict=True):
                    p.copy_(x)
            old = torch.autograd.grad(loss_of(reference, batch, t), list(reference.parameters()))
        with torch.no_grad():
            for p, x, a, b, (m, v) in zip(reference.parameters(), here, g, old, state, strict=True):
                c = a + 0.2 * 0.95 / 0.05 * (a - b)
                c = c / max(1.0, float(c.norm()))
                m.lerp_(c, 0.05)
                v.lerp_(c * c, 0.01)
                p.copy_(x - 0.05 * m / (1 - 0.95**t) / ((v / (1 - 0.99**t)).sqrt() + 1e-8))
        before = here
    assert error(list(model.parameters()), list(reference.parameters())) <= 1e-12


def test_the_exact_form_says_what_it_cannot_do() -> None:
    p = nn.Parameter(torch.ones(3, 2))
    optimizer = thalweg.MARS([p], exact=True)
    with pytest.raises(ValueError, match=r"call step\(closure\)"):
        optimizer.step()
    with pytest.raises(ValueError, match="clip must be left out"):
        thalweg.MARS([p], exact=True, clip=1.0)


def test_fewer_states_where_fewer_ideas_are_used() -> None:
    def kept(**options: Any) -> set[str]:
        params = parameters(shapes=[(5, 7)])
        optimizer = thalweg.DOPE(params, **options)
        run_together([(optimizer, params)], steps=2)
        return set(optimizer.state[params[0]])

    assert kept() == {"fim", "fim_diff", "momentum", "previous_grad", "step"}
    assert kept(diff_mult=0.0) == {"fim", "momentum", "previous_grad", "step"}
    assert kept(diff_mult=0.0, gamma=0.0) == {"fim", "momentum", "step"}


def test_a_preset_fills_what_was_left_at_the_seeds_values() -> None:
    p = [nn.Parameter(torch.ones(3, 2))]
    group = thalweg.DOPE(p, preset="tuned", momentum_beta=0.95, weight_decay=0.1).param_groups[0]
    assert (group["lr"], group["power"], group["diff_mult"], group["cautious"]) == (1.5e-3, 0.75, 0.0, False)
    assert (group["momentum_beta"], group["weight_decay"], group["centralize"]) == (0.95, 0.1, 0.5)
    assert thalweg.DOPE(p, preset="tuned", cautious=True).param_groups[0]["cautious"] is True
    seed = thalweg.DOPE(p).param_groups[0]
    assert (seed["lr"], seed["diff_mult"], seed["cautious"]) == (1.5e-4, 1.0, True)
    with pytest.raises(ValueError, match="preset='best' is unknown; choose one of 'seed', 'tuned'"):
        thalweg.DOPE(p, preset="best")  # type: ignore[arg-type]
