"""The compiled strategy: one kernel whatever the tensors, none again while numbers change, a notice where it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import thalweg
from thalweg.conformance.trial import parameters, run_together
from thalweg.core import compile
from thalweg.core.compile import split_numbers


def compilations() -> int:
    """Kernels made in this process; what is made has no guards, and so is not made again."""
    return len(compile._kernels)


def test_no_recompilation_while_numbers_and_lengths_change() -> None:
    params = parameters(shapes=[(200, 100), (7,), (130, 140), (40_000,)])
    optimizer = thalweg.AdamW(params, run="compiled", weight_decay=0.1, clip=1.0)
    before = compilations()
    run_together([(optimizer, params)], steps=2)
    assert compilations() == before + 1
    for i in range(1, 6):
        group = optimizer.param_groups[0]
        group |= dict(
            lr=0.01 / i, betas=(0.9 - 0.1 * i, 0.99 - 0.01 * i), weight_decay=0.01 * i, eps=10**-i, clip=0.5 * i
        )
        run_together([(optimizer, params)], steps=1, seed=i)
    more = parameters(shapes=[(300, 90), (20_001,), (33,), *[(17,)] * 40])
    other = thalweg.AdamW(more, run="compiled", weight_decay=0.2, clip=2.0)
    run_together([(other, more)], steps=2)
    optimizer.add_param_group({"params": parameters(shapes=[(250, 100)])})
    run_together([(optimizer, [*params, *optimizer.param_groups[1]["params"]])], steps=1)
    assert compilations() == before + 1


def test_rows_of_any_shape_share_kernels() -> None:
    options = {"centralize": 1.0, "normalize": 1.0, "cautious": True}
    counts: list[int] = [compilations()]
    for shapes in ([(8, 5), (50,)], [(30, 20), (4, 3, 3, 3)], [(9, 7), (11, 3, 5), (1000,), (3, 2), (5, 1), (1, 5)]):
        params = parameters(shapes=shapes)
        optimizer = thalweg.SGD(params, run="compiled", **options)
        run_together([(optimizer, params)], steps=2)
        counts.append(compilations())
    assert counts[0] < counts[1] == counts[2] == counts[3]


def test_numbers_are_split_off_the_inner_loop() -> None:
    def step(operands: list[torch.Tensor], numbers: list[torch.Tensor]) -> None:
        b, t = numbers
        for x in operands:
            x.copy_(x / (1 - b**t) + b)

    x, y, b, t = torch.randn(5), torch.randn(7), torch.tensor(0.5), torch.tensor(3.0)
    prologue, body = split_numbers(make_fx(step)([x, y], [b, t]), 2)
    prepared = prologue(b, t)
    assert sorted(float(n) for n in prepared) == [0.5, 1 / 0.875]  # once for both tensors, and ready to multiply with
    assert "pow" not in body.code
    assert "aten.div" not in body.code
    expected = [z / 0.875 + 0.5 for z in (x, y)]
    body(x, y, *prepared)
    assert all(torch.allclose(z, e, rtol=1e-15) for z, e in zip((x, y), expected, strict=True))


@pytest.mark.parametrize("run", ["compiled", "auto"])
def test_a_compiler_that_does_not_work_is_a_notice(run: str, tmp_path: Path) -> None:
    """One that is found but fails, as without Python's headers: the first step runs as foreach and nothing is lost."""
    compiler = tmp_path / "g++"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "g++ 12" && exit 0\necho "Python.h: not found" >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    script = f"""
import warnings, torch, thalweg
from thalweg.core import strategy
strategy.WORTH_COMPILING = 1000
p = torch.ones(20_000).requires_grad_(); p.grad = torch.ones_like(p)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        optimizer = thalweg.SGD([p], lr=0.5, momentum=0.9, run={run!r})
        optimizer.step()
assert torch.equal(p, torch.zeros_like(p)), p
notices = [str(w.message) for w in caught if 'running as "foreach"' in str(w.message)]
assert "compiling failed" in notices[0], notices
assert 'run="foreach"' in repr(optimizer)
"""
    env = os.environ | {"CXX": str(compiler), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
