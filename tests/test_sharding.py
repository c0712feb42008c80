"""Two processes with sharded parameters take the steps of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

import thalweg

FORMS: list[dict[str, Any]] = [
    {"name": "adamw", "clip": 0.1, "run": "foreach"},
    {"name": "adamw", "clip": 0.1, "run": "compiled"},
    {"name": "sgd", "momentum": 0.9, "nonfinite": "skip", "run": "foreach"},
    {"name": "rmsprop", "clip": ("value", 0.01), "run": "each"},
    {"name": "adamw", "centralize": 1.0, "normalize": 1.0, "cautious": True, "clip": ("rms", 0.1)},
    {"name": "nadam", "clip": ("adaptive", 0.1), "cautious": True, "nonfinite": "skip"},
    {"name": "adam", "clip": ("norm", 0.1)},
]


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 150), nn.Tanh(), nn.Linear(150, 130), nn.Tanh(), nn.Linear(130, 1)).double()


def train(model: nn.Module, form: dict[str, Any]) -> list[Tensor]:
    options = dict(form)
    optimizer = thalweg.create(options.pop("name"), model.parameters(), lr=0.01, **options)
    generator = torch.Generator().manual_seed(1)
    for step in range(6):
        x = torch.randn(16, 7, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        if step == 3 and form.get("nonfinite") == "skip":
            for p in list(model.parameters())[:1]:
                assert p.grad is not None
                p.grad.mul_(float("nan"))
        optimizer.step()
    return list(model.parameters())


def worker(rank: int, folder: str) -> None:
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # as the fixture does in the parent
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for i, form in enumerate(FORMS):
        model = build()
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer)
        fully_shard(model)
        params = train(model, form)
        assert all(isinstance(p, DTensor) for p in params)
        whole = [p.full_tensor().detach() for p in params]  # type: ignore[attr-defined]
        if rank == 0:
            torch.save(whole, f"{folder}/{i}.pt")
    params = build_sharded()
    if rank == 1:
        params[0].grad.to_local().fill_(float("inf"))  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match="parameter 0 of group 0"):
        thalweg.AdamW(params, nonfinite="raise").step()  # on both processes
    dist.destroy_process_group()


def build_sharded() -> list[nn.Parameter]:
    from torch.distributed.fsdp import fully_shard

    model = nn.Linear(4, 4)
    fully_shard(model)
    model(torch.ones(2, 4)).sum().backward()
    return list(model.parameters())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.spawn(worker, args=(str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    for i, form in enumerate(FORMS):
        expected = train(build(), form)
        sharded: list[Tensor] = torch.load(tmp_path / f"{i}.pt")
        for a, b in zip(sharded, expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-12), form
