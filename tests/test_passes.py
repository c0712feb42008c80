"""Steps with reductions, cut into passes: the same numbers, in as few sweeps as the equations allow, without temporaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

import thalweg
from thalweg.conformance.trial import parameters, run_together
from thalweg.core import compile, means, passes

Step = Callable[..., Any]


def traced(step: Step, *operands: Tensor) -> fx.GraphModule:
    return make_fx(functionalize(step), decomposition_table=compile._PLAIN, tracing_mode="symbolic")(*operands)


def in_passes(planned: passes.Passes, *operands: Tensor) -> list[Tensor]:
    """Run the passes one by one, uncompiled, as a kernel does; returns what they hand on."""
    values: dict[str, Tensor] = {}
    inputs = planned.values[: len(operands)]
    values |= zip(inputs, operands, strict=True)
    scratch = planned.values[len(operands) : len(operands) + len(planned.scratch)]
    values |= {
        n: torch.empty_like(values[like], dtype=d) for n, (like, d) in zip(scratch, planned.scratch, strict=True)
    }
    for one in planned.passes:
        values |= zip(one.returns, one.graph(*(values[name] for name in one.takes)), strict=True)
    return [values[name] for one in planned.passes for name in one.returns]


def clipped_momentum(p: Tensor, g: Tensor, m: Tensor) -> None:
    """RMS clip, an average of the result, and its mean taken out: two sweeps, as the mean follows from sums of the first.

    The quotient of the first sweep is left in scratch.
    """
    g = g / (g * g).sum(1, keepdim=True).sqrt()
    u = g * (0.5 / (g * g).mean(1, keepdim=True).mean().sqrt()).clamp(max=1.0)
    m.copy_(m + 0.1 * (u - m))
    p.copy_(p - (m - m.mean(1, keepdim=True).mean()) / 3)


def square_root_twice(p: Tensor, g: Tensor, m: Tensor) -> None:
    """A root of the first sweep that the second needs is left in scratch."""
    m.copy_(m + g * g)
    u = g / (m.sqrt() + 1)
    p.copy_(p - u / u.mean(1, keepdim=True).mean())


def old_value_later(p: Tensor, g: Tensor, m: Tensor) -> None:
    """m may not be overwritten before the second sweep has read what it was."""
    change = g - m
    p.copy_(p - change * change.mean(1, keepdim=True).mean())
    m.copy_(g)


@pytest.mark.parametrize(
    ("step", "sweeps", "scratch"), [(clipped_momentum, 2, 1), (square_root_twice, 2, 1), (old_value_later, 2, 0)]
)
def test_passes_do_what_the_step_does(step: Step, sweeps: int, scratch: int) -> None:
    ours = [torch.rand(5, 7, dtype=torch.float64) for _ in range(3)]
    theirs = [x.clone() for x in ours]
    body = traced(step, *ours)
    planned = passes.cut(body)
    assert (len(planned.passes), len(planned.scratch)) == (sweeps, scratch)
    handed_on = in_passes(planned, *ours)
    step(*theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)
    assert all(x.numel() in (1, 5) for x in handed_on)  # numbers and one a row, never a temporary


def test_the_algebra_of_means() -> None:
    def step(x: Tensor, y: Tensor) -> Tensor:
        s = 1 / x.mean(1, keepdim=True).mean()
        z = (x * s + y * 3 - (y + s)) / 1
        return (
            (z * s).mean(1, keepdim=True).mean()
            + ((x * s) * (y * s)).mean(1, keepdim=True).mean()
            - (x * s - y.mean(1, keepdim=True)).mean(1, keepdim=True).mean()
        )

    x, y = torch.rand(5, 7, dtype=torch.float64), torch.rand(5, 7, dtype=torch.float64)
    graph = traced(step, x, y)
    expected = step(x, y)
    means.distribute(graph.graph)
    graph.recompile()
    torch.testing.assert_close(graph(x, y), expected, rtol=1e-13, atol=0)

    def behind(n: fx.Node) -> int:
        return max((behind(i) + (i.target in means.REDUCTIONS) for i in n.all_input_nodes), default=0)

    swept = [
        n for n in graph.graph.nodes if n.target in means.REDUCTIONS and len(set(means.shape(n.args[0])) - {"1"}) == 2
    ]
    assert len(swept) > 4
    assert not any(map(behind, swept))  # none has to wait for s


@pytest.mark.parametrize(
    ("name", "options", "sweeps", "scratch"),
    [
        ("adamw", {}, 1, 0),
        ("saveus", {}, 1, 0),
        ("mars", {}, 2, 0),
        ("dope", {}, 3, 1),
        ("dope", {"preset": "tuned"}, 2, 1),
        ("exmachina", {}, 3, 2),
        ("adamw", {"centralize": 1.0, "normalize": 1.0, "cautious": True}, 2, 1),
    ],
)
def test_sweeps_of_a_matrix(
    name: str, options: dict[str, Any], sweeps: int, scratch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[passes.Passes] = []
    cut = passes.cut

    def watched(body: fx.GraphModule) -> passes.Passes:
        seen.append(cut(body))
        return seen[-1]

    monkeypatch.setattr(passes, "cut", watched)
    monkeypatch.setattr(compile, "_kernels", {})
    params = parameters(torch.float32, [(40, 30)])
    optimizer = thalweg.create(name, params, lr=1e-3, run="compiled", **options)
    run_together([(optimizer, params)], steps=1)
    if name == "adamw" and not options:  # joined, and flat
        assert len(seen[0].passes) == sweeps
        return
    assert [(len(one.passes), len(one.scratch)) for one in seen] == [(sweeps, scratch)]
