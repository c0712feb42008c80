"""The check over processes: two of them with parameters sharded by FSDP2 take the steps of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from thalweg.conformance.checks import Case
from thalweg.conformance.trial import SHAPES, double_by_default, error, give_gradients, run_together
from thalweg.core.sharding import spread

SHARDABLE = tuple(shape for shape in SHAPES[:-1] if shape)
"""FSDP2 takes no scalars.  Of (1,) the second process holds nothing; rows of (7,), (2, 3, 3, 3) are not shared out evenly."""


def sharded(cases: Sequence[Case]) -> list[float]:
    """For each case its distance to one process; two processes are started for all of them."""
    return in_two_processes(_distances, list(cases))[0]


def in_two_processes(work: Callable[..., Any], *args: Any) -> list[Any]:
    """What ``work(rank, …)`` returns on each of two gloo processes on the CPU, whose default dtype is float64."""
    from torch.multiprocessing.spawn import (
        ProcessExitedException,
        spawn,  # pyright: ignore[reportUnknownVariableType]  # torch leaves its types out
    )

    with tempfile.TemporaryDirectory() as folder:
        results = [Path(folder) / f"{rank}.pt" for rank in range(2)]
        try:
            spawn(_process, args=(work, folder, *args), nprocs=2)
        except ProcessExitedException:
            if not all(result.exists() for result in results):  # else the work was done: gloo may abort on the way out
                raise
        return [torch.load(result, weights_only=True) for result in results]


def _process(rank: int, work: Callable[..., Any], folder: str, *args: Any) -> None:
    import torch.distributed as dist

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    with double_by_default():
        result = work(rank, *args)
    torch.save(result, Path(folder) / f"{rank}.part")
    os.replace(Path(folder) / f"{rank}.part", Path(folder) / f"{rank}.pt")
    dist.barrier()
    os._exit(0)  # leaving as usual, gloo's threads now and then abort while Python shuts down


def _distances(rank: int, cases: list[Case]) -> list[float]:
    return [_distance(replace(case, shapes=SHARDABLE)) for case in cases]


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
            p.grad = spread(g.grad, p)
        optimizer.step()
    return error([p.full_tensor() for p in shards], whole)
