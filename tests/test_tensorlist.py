"""TensorList answers like a loop over its members."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from thalweg.core.tensorlist import TensorList

FUNCTIONS: list[Callable[..., Any]] = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.gt,
    operator.ge,
    operator.lt,
    torch.add,
    torch.maximum,
    torch.atan2,  # has no foreach kernel
]


def members() -> tuple[list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    shapes = [(3,), (2, 4), ()]
    return [torch.rand(s) + 0.5 for s in shapes], [torch.rand(s) + 0.5 for s in shapes]


TENSORS_ONLY = (torch.maximum, torch.atan2)  # torch itself takes no number here


@pytest.mark.parametrize(
    ("function", "other"),
    [
        (function, other)
        for function in FUNCTIONS
        for other in ("list", "number", "0-D tensor")
        if other != "number" or function not in TENSORS_ONLY
    ],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_two_operands(function: Callable[..., Any], other: str) -> None:
    a, b = members()
    right: Any = {"list": TensorList(b), "number": 1.5, "0-D tensor": torch.tensor(1.5)}[other]
    rights = b if other == "list" else [right] * 3
    got = function(TensorList(a), right)
    assert all(torch.equal(x, function(y, z)) for x, y, z in zip(got, a, rights, strict=True))


def test_numbers_on_the_left() -> None:
    a, _ = members()
    for function in (operator.add, operator.sub, operator.mul, operator.truediv):
        got = function(2.0, TensorList(a))
        assert all(torch.allclose(x, function(2.0, y), rtol=1e-15) for x, y in zip(got, a, strict=True))


def test_in_place_methods_change_the_members_and_return_the_list() -> None:
    a, b = members()
    expected = [x.lerp(y, 0.3).mul(2.0) for x, y in zip(a, b, strict=True)]
    ours: Any = TensorList(a)
    assert ours.lerp_(TensorList(b), 0.3).mul_(2.0) is ours
    assert all(torch.equal(x, y) for x, y in zip(a, expected, strict=True))


def test_functions_and_methods_without_a_kernel() -> None:
    a, b = members()
    ours, theirs = TensorList(a), TensorList(b)
    where: Any = torch.where
    chosen = where(ours > theirs, ours, theirs)
    assert all(torch.equal(x, torch.maximum(y, z)) for x, y, z in zip(chosen, a, b, strict=True))
    means: Any = torch.mean(ours)  # type: ignore[call-overload]
    assert all(torch.equal(x, y.mean()) for x, y in zip(means, a, strict=True))
    narrow: Any = ours.to(torch.bfloat16)
    assert narrow.dtype == torch.bfloat16


def test_reductions_over_all_members() -> None:
    a, b = members()
    flat_a, flat_b = (torch.cat([x.reshape(-1) for x in side]) for side in (a, b))
    assert torch.allclose(TensorList(a).norm(), flat_a.norm(), rtol=1e-14)
    assert torch.allclose(TensorList(a).dot(TensorList(b)), flat_a @ flat_b, rtol=1e-14)
    halves = TensorList([torch.full((300,), 300.0, dtype=torch.float16)])
    assert torch.isfinite(halves.norm())  # its square does not fit in float16


def test_unknown_names_are_torchs_error() -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        TensorList(members()[0]).no_such_function()


def test_lists_of_different_lengths_are_refused() -> None:
    a, _ = members()
    with pytest.raises((ValueError, RuntimeError)):
        _ = TensorList(a) + TensorList(a[:2])
