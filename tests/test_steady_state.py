"""After the first steps nothing waits for the device and nothing is compiled, whatever is scheduled."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from test_options import OPTIONS, name
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import thalweg
from thalweg.conformance import SPECS, Spec
from thalweg.conformance.trial import SHAPES, STRATEGIES, give_gradients, parameters

PLAIN = [spec for spec in SPECS if not spec.kwargs]
MORE: list[dict[str, Any]] = [*OPTIONS, {"nonfinite": "skip", "clip": 0.1}, {"nonfinite": "skip", **OPTIONS[-1]}]
READERS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")


class NoReads(TorchDispatchMode):
    """Below the methods: what moves a value to the host, however it was asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.equal):
            raise AssertionError(f"{func} reads a value")
        assert (kwargs or {}).get("device") is None or func.overloadpacket is not torch.ops.aten._to_copy
        return func(*args, **(kwargs or {}))


@contextmanager
def nothing_is_read(device: str) -> Generator[None]:
    item = Tensor.item

    def forbidden(x: Tensor, *_: Any, **__: Any) -> Any:
        if sys._getframe(1).f_code.co_name == "guard" and x.device.type == "cpu":
            return item(x)  # a kernel's own guard, on a number that lives on the host
        raise AssertionError("a value is read on the host")

    with pytest.MonkeyPatch.context() as patch:
        for method in READERS:
            patch.setattr(Tensor, method, forbidden)
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")


def schedule(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Other values for every number, every step."""
    for group in optimizer.param_groups:
        group["lr"] = 0.01 / (1 + step)
        group["weight_decay"] = 0.1 + 1e-3 * step
        if "betas" in group:
            group["betas"] = (0.9 - 1e-3 * step, 0.99 - 1e-4 * step)


def check(
    spec: Spec, options: dict[str, Any], run: str, device: str = "cpu", dtype: torch.dtype = torch.float64
) -> None:
    params = parameters(dtype, spec.takes(SHAPES), device)
    optimizer = thalweg.create(spec.name, params, lr=0.01, run=run, **({"weight_decay": 0.1} | options))
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        give_gradients([[p] for p in params], generator)
        schedule(optimizer, step)
        steady = step >= 2
        # A compiled function is traced anew under a dispatch mode; there the methods alone are watched.
        watch = nothing_is_read(device) if steady else nullcontext()
        with watch, NoReads() if steady and run != "compiled" else nullcontext():
            optimizer.step()


@pytest.mark.parametrize("run", ["each", "foreach"])
@pytest.mark.parametrize("options", [{}, *MORE], ids=name)
@pytest.mark.parametrize("spec", PLAIN, ids=lambda spec: spec.id)
def test_no_step_reads_a_value(spec: Spec, options: dict[str, Any], run: str) -> None:
    check(spec, options, run)


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        pytest.param({}, torch.float64, marks=pytest.mark.slow),
        ({}, torch.bfloat16),
        (MORE[-1], torch.float64),
        pytest.param(MORE[-1], torch.bfloat16, marks=pytest.mark.slow),
    ],
    ids=lambda value: name(value) if isinstance(value, dict) else str(value),
)
@pytest.mark.parametrize("spec", [s for s in PLAIN if s.name in ("adamw", "dope")], ids=lambda spec: spec.id)
def test_no_compiled_step_reads_a_value(spec: Spec, options: dict[str, Any], dtype: torch.dtype) -> None:
    check(spec, options, "compiled", dtype=dtype)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("run", STRATEGIES)
@pytest.mark.parametrize("spec", PLAIN, ids=lambda spec: spec.id)
def test_no_step_waits_for_the_device(spec: Spec, run: str) -> None:
    for options in [{}, MORE[-1]] if run == "compiled" else [{}, *MORE]:
        check(spec, options, run, "cuda", torch.float32)


@pytest.mark.parametrize("options", [{}, {"nonfinite": "skip"}], ids=name)
def test_a_hundred_scheduled_steps_compile_nothing(options: dict[str, Any]) -> None:
    params = parameters(shapes=[(200, 100), (7,), (130, 140), (40_000,)])
    optimizer = thalweg.AdamW(params, run="compiled", weight_decay=0.1, clip=1.0, **options)
    generator = torch.Generator().manual_seed(0)
    compiled: list[int] = []
    for step in range(102):
        give_gradients([[p] for p in params], generator)
        schedule(optimizer, step % 50)
        optimizer.step()
        compiled.append(torch._dynamo.utils.counters["aot_autograd"]["total"])
    assert 'run="compiled"' in repr(optimizer)
    assert compiled[1] == compiled[-1] > 0
