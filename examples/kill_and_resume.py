"""A run of 200 steps, killed and resumed with identical losses: in a plain loop, under DDP and under FSDP2.

Each mode trains twice: once without interruption, and once killed with SIGKILL after step 120 and started again from its
last checkpoint.  All losses of every process must be equal, bit for bit.  Parameters are in bfloat16 and rounded at
random: the noise follows from seed, step and element, so it too goes on as it would have.

    python examples/kill_and_resume.py              # all three, two gloo processes on the CPU for DDP and FSDP2
    python examples/kill_and_resume.py plain fsdp2
"""

# dcp.save and dcp.load are torch's documented names, though it does not mark them as exported:
# pyright: reportPrivateImportUsage=false

import multiprocessing
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import thalweg

PROCESSES = {"plain": 1, "ddp": 2, "fsdp2": 2}
STEPS, SAVE_EVERY, KILL_AFTER = 200, 50, 120


def train(mode: str, rank: int, folder: Path, start: int) -> None:
    """One process, from the last checkpoint in ``folder`` or from the beginning."""
    torch.set_num_threads(1)
    if mode != "plain":
        dist.init_process_group("gloo", f"file://{folder}/meet-{start}", rank=rank, world_size=PROCESSES[mode])
    torch.manual_seed(0)
    model: Any = nn.Sequential(
        nn.Linear(16, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 1)
    ).bfloat16()
    if mode == "ddp":
        model = DistributedDataParallel(model)
    if mode == "fsdp2":
        fully_shard(model)
    optimizer = thalweg.NAdam(model.named_parameters(), lr=2e-3, clip=1.0, cautious=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=STEPS)
    if last := max(folder.glob("step-???"), default=None):
        load(mode, last, model, optimizer, schedule)

    with open(folder / f"losses-{rank}", "a", buffering=1) as log:
        for step in range(schedule.last_epoch, STEPS):
            # A batch that follows from step and rank: no state of random numbers has to be saved.
            x = torch.randn(64, 16, generator=torch.Generator().manual_seed(2 * step + rank))
            loss = (model(x.bfloat16()).float() - x.sin().sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            log.write(f"{step + 1} {loss.item().hex()}\n")
            if (step + 1) % SAVE_EVERY == 0:
                save(mode, rank, folder / f"step-{step + 1:03}", model, optimizer, schedule)
    if mode != "plain":
        os._exit(0)  # gloo's threads may still hold the last tensors, and may hang or abort as Python shuts down


def save(mode: str, rank: int, path: Path, model: Any, optimizer: Any, schedule: Any) -> None:
    """Save under another name and rename: a kill while saving leaves the checkpoint before this one."""
    unfinished = path.with_suffix(".unfinished")
    if mode == "fsdp2":  # each process writes its own part
        model_state, optimizer_state = get_state_dict(model, optimizer)
        dcp.save({"model": model_state, "optimizer": optimizer_state, "schedule": schedule}, checkpoint_id=unfinished)
    elif rank == 0:
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
        torch.save({name: part.state_dict() for name, part in parts.items()}, unfinished)
    if rank == 0:
        unfinished.rename(path)


def load(mode: str, path: Path, model: Any, optimizer: Any, schedule: Any) -> None:
    if mode == "fsdp2":
        model_state, optimizer_state = get_state_dict(model, optimizer)
        dcp.load({"model": model_state, "optimizer": optimizer_state, "schedule": schedule}, checkpoint_id=path)
        set_state_dict(model, optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)
    else:
        state = torch.load(path, weights_only=True)
        for name, part in {"model": model, "optimizer": optimizer, "schedule": schedule}.items():
            part.load_state_dict(state[name])


def start(mode: str, folder: Path, number: int) -> list[Any]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["thalweg", "torch.distributed.checkpoint", "torch.distributed.fsdp"]
    )  # imported once
    processes = [
        context.Process(target=train, args=(mode, r, folder, number), daemon=True) for r in range(PROCESSES[mode])
    ]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[Any]) -> None:
    for process in processes:
        process.join()
        assert process.exitcode == 0


def logged(mode: str, folder: Path) -> list[tuple[int, int, str]]:
    """(step, rank, loss) of every step that was taken, repeated ones twice."""
    ranks = [r for r in range(PROCESSES[mode]) if (folder / f"losses-{r}").exists()]
    lines = [(r, line.split()) for r in ranks for line in (folder / f"losses-{r}").read_text().splitlines()]
    return [(int(step), r, loss) for r, (step, loss) in lines]


def steps_taken(mode: str, folder: Path) -> int:
    return max((step for step, *_ in logged(mode, folder)), default=0)


def check(mode: str, folder: Path) -> None:
    straight, killed = folder / "straight", folder / "killed"
    straight.mkdir()
    killed.mkdir()
    finish(start(mode, straight, 1))

    processes = start(mode, killed, 1)
    while steps_taken(mode, killed) < KILL_AFTER:
        assert all(process.is_alive() for process in processes), "a process failed"
        time.sleep(0.005)
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    reached, saved = steps_taken(mode, killed), max(killed.glob("step-???")).name
    assert reached < STEPS, "the run had ended before it was killed"

    finish(start(mode, killed, 2))
    expected, got = logged(mode, straight), logged(mode, killed)
    assert len(expected) == STEPS * PROCESSES[mode]
    assert set(expected) == set(got)  # the steps that were taken twice too
    last = float.fromhex(expected[-1][-1])
    print(
        f"{mode}: killed after step {reached}, continued from {int(saved[5:])}, {STEPS} losses identical, last {last:.4f}"
    )


if __name__ == "__main__":
    for mode in sys.argv[1:] or PROCESSES:
        with TemporaryDirectory() as folder:
            check(mode, Path(folder))
