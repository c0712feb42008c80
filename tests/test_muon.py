"""Muon: its factors, its scales and its momentum, each by itself; public implementations; shards; bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import thalweg
from thalweg.conformance.sharded import in_two_processes
from thalweg.conformance.trial import error, parameters, run_together
from thalweg.core import matrices, sharding
from thalweg.core.matrices import ADJUST, COEFFICIENTS, Iteration, Layout, newton_schulz
from thalweg.core.sharding import spread
from thalweg.core.tensorlist import TensorList

SHAPES = {
    "square": (24, 24),
    "wide": (16, 40),
    "nearly square": (24, 30),
    "tall": (50, 8),
    "row": (1, 9),
    "column": (9, 1),
}


def on_singular_values(x: Tensor, coefficients: str, steps: int, eps: float = 1e-7) -> Tensor:
    """The same polynomials, on what they act on."""
    u, sigma, v = torch.linalg.svd(x.double(), full_matrices=False)
    sigma = sigma / (sigma.square().sum().sqrt() + eps)
    for a, b, c in COEFFICIENTS[coefficients](steps):
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    return (u * sigma) @ v


def distance(a: Tensor, b: Tensor) -> float:
    return (torch.dist(a.double(), b.double()) / torch.linalg.vector_norm(b.double())).item()


@pytest.mark.parametrize("coefficients", COEFFICIENTS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_factors(shape: tuple[int, int], coefficients: str, dtype: torch.dtype, bound: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, *shape, dtype=torch.float64)
    found = newton_schulz(x.to(dtype), COEFFICIENTS[coefficients](5), 1e-7)
    for one, start in zip(found, x, strict=True):
        if dtype == torch.bfloat16 and 1 in shape:  # σ is 1 but for rounding, where the first polynomial is steep
            assert 0.66 <= one.norm() <= 1.22
        else:
            assert distance(one, on_singular_values(start, coefficients, 5)) <= bound


@pytest.mark.parametrize("rank", [1, 3, 12])
@pytest.mark.parametrize("shape", [(16, 40), (200, 16)])
def test_factors_of_matrices_without_full_rank(shape: tuple[int, int], rank: int) -> None:
    """On the Gram matrix directions that are missing must stay missing: float32 leaves them at some 1e-3 of the others."""
    torch.manual_seed(0)
    x = torch.randn(shape[0], rank, dtype=torch.float64) @ torch.randn(rank, shape[1], dtype=torch.float64)
    found = newton_schulz(x.float()[None], COEFFICIENTS["quintic"](5), 1e-7)[0]
    assert distance(found, on_singular_values(x, "quintic", 5)) <= 5e-3


@pytest.mark.parametrize(("coefficients", "low", "high"), [("quintic", 0.66, 1.22), ("polar_express", 0.87, 1.13)])
def test_singular_values_end_near_one(coefficients: str, low: float, high: float) -> None:
    sigma = torch.logspace(-2.9 if coefficients == "polar_express" else -1.8, 0, 500, dtype=torch.float64)
    for a, b, c in COEFFICIENTS[coefficients](5):
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    assert low <= sigma.min()
    assert sigma.max() <= high


def test_more_steps_of_polar_express_converge() -> None:
    sigma = torch.logspace(-3, 0, 500, dtype=torch.float64)
    for a, b, c in COEFFICIENTS["polar_express"](10):
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    assert (sigma - 1).abs().max() <= 0.011  # the margin of the seventh step is corrected by those after it


def test_one_step_for_many_matrices_is_a_step_for_each() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(s) for s in [(8, 20), (20, 8), (8, 20), (4, 4), (8, 20)]]
    find = Iteration(1e-7)
    together = matrices.orthogonalized(TensorList(tensors), find)
    for x, one in zip(tensors, together, strict=True):
        assert distance(one, matrices.orthogonalized(x, find)) <= 1e-6


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-30])
@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_small_gradients_are_finite(shape: tuple[int, int], arithmetic: str, scale: float) -> None:
    p = nn.Parameter(torch.randn(shape))
    optimizer = thalweg.Muon([p], arithmetic=arithmetic)
    for _ in range(3):
        p.grad = torch.randn(shape) * scale
        optimizer.step()
    assert p.isfinite().all()


# Momentum, decay, scales, layouts: with the orthogonalization replaced by the identity


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "newton_schulz", lambda x, *_: x)


LAYOUTS: list[tuple[tuple[int, ...], dict[str, Any], tuple[int, int]]] = [
    ((6, 4), {}, (6, 4)),
    ((4, 6), {}, (4, 6)),
    ((64, 3, 3, 3), {}, (64, 27)),  # read off the 4-D shape it would be 64 to 3
    ((4, 12, 6), {"stacked": True}, (12, 6)),
    ((4, 12, 6), {}, (4, 72)),
    ((12, 6), {"splits": (4, 4, 4)}, (4, 6)),
    ((6, 12), {"transposed": True}, (12, 6)),
    ((5, 6, 12), {"transposed": True, "stacked": True, "splits": (6, 6)}, (6, 6)),
]


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize("adjust", ADJUST)
@pytest.mark.parametrize(("shape", "layout", "matrix"), LAYOUTS)
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("ema", [True, False])
def test_momentum_decay_and_scale(
    shape: tuple[int, ...], layout: dict[str, Any], matrix: tuple[int, int], adjust: str, nesterov: bool, ema: bool
) -> None:
    rows, columns = matrix
    scale = {
        "original": max(1, rows / columns) ** 0.5,
        "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5,
        "spectral": (rows / columns) ** 0.5,
    }[adjust]
    torch.manual_seed(0)
    p = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    expected, buffer = p.detach().clone(), torch.zeros_like(p)
    optimizer = thalweg.Muon(
        [p], lr=0.1, weight_decay=0.5, momentum=0.8, nesterov=nesterov, ema=ema, adjust=adjust, **layout
    )
    for _ in range(5):
        p.grad = torch.randn_like(p)
        w = 0.2 if ema else 1.0
        buffer = 0.8 * buffer + w * p.grad
        u = w * p.grad + 0.8 * buffer if nesterov else buffer
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * scale * u
        optimizer.step()
    assert distance(p.detach(), expected) <= 1e-6


def test_splits_are_matrices_of_their_own() -> None:
    torch.manual_seed(0)
    x = torch.randn(12, 6, dtype=torch.float64)
    find = Iteration(1e-7)
    whole = matrices.orthogonalized(x, find, layout=Layout(splits=(4, 8)))
    parts = [matrices.orthogonalized(part, find) for part in x.split([4, 8])]
    assert distance(whole, torch.cat(parts)) <= 1e-12
    turned = matrices.orthogonalized(x.T.contiguous(), find, layout=Layout(splits=(4, 8), transposed=True))
    assert distance(turned.T, whole) <= 1e-12


# Other implementations


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_equals_torch(adjust: str, nesterov: bool) -> None:
    ours, theirs = (parameters(torch.float32, shapes=[(20, 30), (30, 20), (16, 16), (50, 4)]) for _ in range(2))
    optimizer = thalweg.Muon(ours, adjust=adjust, nesterov=nesterov, arithmetic="bfloat16")
    reference = torch.optim.Muon(theirs, adjust_lr_fn=adjust, nesterov=nesterov)
    run_together([(optimizer, ours), (reference, theirs)], steps=20)
    assert error(ours, theirs) <= 1e-4  # two orders of rounding in bfloat16
    buffers = [[o.state[p]["momentum_buffer"] for p in ps] for o, ps in ((optimizer, ours), (reference, theirs))]
    assert error(*buffers) <= 1e-6


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("torch", {"lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95, "adjust": "original", "ema": True}),
        ("keller", {"lr": 0.02, "weight_decay": 0.0, "momentum": 0.95, "adjust": "original", "ema": True}),
        ("moonlight", {"lr": 1e-3, "weight_decay": 0.1, "momentum": 0.95, "adjust": "match_rms_adamw", "ema": False}),
    ],
)
def test_dialects(match: str, expected: dict[str, Any]) -> None:
    (group,) = thalweg.Muon(parameters(shapes=[(3, 4)]), match=match).param_groups
    assert {name: group[name] for name in expected} == expected
    assert thalweg.Muon(parameters(shapes=[(3, 4)]), match=match, lr=0.5).param_groups[0]["lr"] == 0.5


def test_the_sum_takes_the_steps_of_the_average() -> None:
    ours, theirs = (parameters(shapes=[(20, 30), (16, 16)]) for _ in range(2))
    pair = [thalweg.Muon(ours, ema=True, eps=0.0), thalweg.Muon(theirs, ema=False, eps=0.0)]
    run_together(list(zip(pair, (ours, theirs), strict=True)), steps=10)
    assert error(ours, theirs) <= 1e-12
    a, b = (o.state[p]["momentum_buffer"] for o, (p, *_) in zip(pair, (ours, theirs), strict=True))
    assert distance(b, a / 0.05) <= 1e-12


# Shards


SHARDED: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((7, 5), {}),  # uneven
    ((1, 9), {}),  # the second process holds nothing
    ((130, 130), {}),
    ((5, 3, 2, 2), {}),
    ((3, 4, 6), {"stacked": True}),
    ((9, 4), {"splits": (3, 3, 3)}),
]


def steps_of(rank: int, shape: tuple[int, ...], layout: dict[str, Any], over_processes: bool) -> Tensor:
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    module = nn.ParameterList([nn.Parameter(torch.randn(shape, dtype=torch.float64))])
    if over_processes:
        fully_shard(module)
    (p,) = module.parameters()
    optimizer = thalweg.Muon([p], lr=0.1, **layout)
    for _ in range(4):
        p.grad = spread(torch.randn(shape, dtype=torch.float64), p)
        optimizer.step()
    return sharding.whole(p).detach()


def all_sharded(rank: int) -> list[Tensor]:
    return [steps_of(rank, shape, layout, over_processes=True) for shape, layout in SHARDED]


def test_two_processes_take_the_steps_of_one() -> None:
    expected = [steps_of(0, shape, layout, over_processes=False) for shape, layout in SHARDED]
    for found in in_two_processes(all_sharded):
        assert error(found, expected) <= 1e-12


# Bad input


@pytest.mark.parametrize(
    ("shape", "kwargs", "message"),
    [
        ((5,), {}, r"Muon: parameter 0 has shape \(5,\); a matrix is needed.*route"),
        ((5, 4), {"stacked": True}, r"shape \(5, 4\); a stack of matrices is needed"),
        ((5, 4), {"splits": (2, 2)}, r"splits=\(2, 2\) add up to 4; parameter 0 has 5 outputs"),
        ((5, 4), {"splits": (2, 2.0)}, "splits=.* whole numbers"),
        ((5, 4), {"match": "jordan"}, "match='jordan'"),
        ((5, 4), {"adjust": "none"}, "adjust='none'"),
        ((5, 4), {"ns_steps": -1}, "ns_steps=-1"),
    ],
)
def test_wrong_arguments_are_named(shape: tuple[int, ...], kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        thalweg.Muon([nn.Parameter(torch.ones(shape))], **kwargs)


def test_the_name_is_in_the_message() -> None:
    with pytest.raises(ValueError, match="'bias' has shape"):
        thalweg.Muon(nn.Linear(3, 2).named_parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("run", ["each", "foreach"])
def test_skip_changes_no_bit(run: str, dtype: torch.dtype) -> None:
    params = parameters(dtype, shapes=[(8, 5), (5, 8)])
    optimizer = thalweg.Muon(params, nonfinite="skip", run=run)
    run_together([(optimizer, params)], steps=3)
    kept = [x.detach().clone() for p in params for x in (p, optimizer.state[p]["momentum_buffer"])]
    for p in params:
        p.grad = torch.full_like(p, torch.nan)
    optimizer.step()
    now = [x for p in params for x in (p, optimizer.state[p]["momentum_buffer"])]
    assert all(torch.equal(a, b) for a, b in zip(now, kept, strict=True))


def test_channels_last_kernels_and_gradients_in_other_layouts() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 4, 3, 3)
    ours, theirs = nn.Parameter(x.to(memory_format=torch.channels_last)), nn.Parameter(x.clone())
    pair = [(thalweg.Muon([p], lr=0.1), [p]) for p in (ours, theirs)]
    run_together(pair, steps=5)
    assert distance(ours.detach(), theirs.detach()) <= 1e-5
