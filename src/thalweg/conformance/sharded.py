"""The check over processes: two of them with parameters sharded by FSDP2 take the steps of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.conformance.checks import Case
from thalweg.conformance.trial import SHAPES, double_by_default, error, give_gradients, run_together

SHARDABLE = tuple(shape for shape in SHAPES[:-1] if shape)
"""FSDP2 takes no scalars.  Of (1,) the second process holds nothing; rows of (7,), (2, 3, 3, 3) are not shared out evenly."""


def sharded(cases: Sequence[Case]) -> list[float]:
    """For each case its distance to one process; two processes are started for all of them."""
    import torch.multiprocessing as mp

    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_process, args=(list(cases), folder), nprocs=2)  # type: ignore[no-untyped-call]
        return torch.load(Path(folder) / "errors.pt", weights_only=True)


def _process(rank: int, cases: list[Case], folder: str) -> None:
    import torch.distributed as dist

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    with double_by_default():
        errors = [_distance(replace(case, shapes=SHARDABLE)) for case in cases]
    if rank == 0:
        torch.save(errors, Path(folder) / "errors.pt")
    dist.barrier()
    os._exit(0)  # leaving as usual, gloo's threads now and then abort while Python shuts down


def _distance(case: Case) -> float:
    from torch.distributed.fsdp import fully_shard

    whole = case.params()
    run_together([(case.make(whole, run="each"), whole)], steps=5)
    module = nn.ParameterList(case.params())
    fully_shard(module)
    shards: list[Any] = list(module.parameters())
    optimizer = case.make(shards)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        gradients = [nn.Parameter(torch.empty(p.shape, dtype=p.dtype)) for p in shards]
        give_gradients([[g] for g in gradients], generator)
        for p, g in zip(shards, gradients, strict=True):
            p.grad = _like(p, g.grad)
        optimizer.step()
    return error([p.full_tensor() for p in shards], whole)


def _like(p: Any, g: Tensor | None) -> Tensor:
    from torch.distributed.tensor import distribute_tensor

    assert g is not None
    return distribute_tensor(g, p.device_mesh, p.placements, src_data_rank=None)
