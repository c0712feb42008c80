"""What the lab's loop costs above a plain one: the same task, optimizer, batches and evaluations, interleaved, as ratios.

    python benchmarks/overhead.py [ROUNDS] [TASK…]

prints the table of overhead.md.  A round does each loop once, in random order; the ratio is taken inside the round.  One
thread.  CPU seconds leave out most of what other programs of the machine do, and the least of many rounds nearly all of it;
wall seconds have also the waiting for the disk.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

import thalweg
from thalweg.lab.contract import draw_up
from thalweg.lab.environment import environment
from thalweg.lab.records import RunConfig
from thalweg.lab.run import evaluate, execute
from thalweg.lab.space import entry
from thalweg.lab.store import RunFolder
from thalweg.lab.study import ready
from thalweg.lab.tasks import load_task

TASKS = ("digits-mlp", "digits-cnn", "digits-autoencoder", "mnist1d-cnn", "docs-gpt")
ROUNDS = 20
Seconds = tuple[float, float]


def configuration(task: str, evaluations: int) -> RunConfig:
    """A run of AdamW: the first that tuning would do."""
    config = ready(draw_up("overhead", [task], [entry("adamw")], trials=3, seeds=1), {})[1]
    return config.model_copy(update={"evaluations": evaluations})


def by_the_lab(config: RunConfig, folder: Path) -> None:
    """The whole run as a worker does it: configuration, curve and result on disk."""
    execute(config, RunFolder(folder), lambda: False)


def plainly(config: RunConfig, folder: Path) -> None:
    """The loop that one would write: the loss looked at in each step, the schedule by hand, evaluations printed to a file."""
    task = load_task(config.task)
    model = task.model(config.seed)
    optimizer = thalweg.create(config.rule, model.parameters(), **config.keywords)
    batches, losses, step = task.batches(config.seed), list[float](), 0
    folder.mkdir(parents=True)
    with (folder / "log.txt").open("w") as log:
        print(evaluate(task, model, task.validation), file=log)
        for number in range(1, config.evaluations + 1):
            while step < config.budget * number // config.evaluations:
                for group in optimizer.param_groups:
                    group["lr"] = config.point["lr"] * config.schedule.factor((step + 1) / (config.budget + 1))
                inputs, targets = next(batches)
                optimizer.zero_grad()
                loss = task.loss(model(inputs), targets)
                cast(Any, loss).backward()
                optimizer.step()
                losses.append(loss.item())
                step += 1
            print(evaluate(task, model, task.validation), sum(losses) / len(losses), file=log)
            losses.clear()


def timed(loop: Callable[[RunConfig, Path], None], config: RunConfig) -> Seconds:
    """CPU and wall seconds of a loop."""
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        loop(config, Path(folder) / "run")
        return time.process_time() - cpu, time.perf_counter() - wall


def rounds(config: RunConfig, count: int) -> list[tuple[Seconds, Seconds]]:
    """(the lab's, the plain loop's) seconds of each round, after one round that does not count."""
    found: list[tuple[Seconds, Seconds]] = []
    for _ in range(count + 1):
        loops = [by_the_lab, plainly]
        random.shuffle(loops)
        seconds = {loop: timed(loop, config) for loop in loops}
        found.append((seconds[by_the_lab], seconds[plainly]))
    return found[1:]


def said(ratios: list[float]) -> str:
    """Median and the range of eight in ten."""
    tenths = statistics.quantiles(ratios, n=10)
    return f"{statistics.median(ratios):.3f} [{tenths[0]:.3f}, {tenths[-1]:.3f}]"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(f"{environment().said}; {count} rounds\n")
    print("| Task | Evaluations | Plain, least CPU s | Lab ÷ plain, CPU | least ÷ least, CPU | Lab ÷ plain, wall |")
    print("|---|---|---|---|---|---|")
    for task in sys.argv[2:] or TASKS:
        for evaluations in (15, 1):
            found = rounds(configuration(task, evaluations), count)
            cpu, wall = ([lab[clock] / plain[clock] for lab, plain in found] for clock in (0, 1))
            ours, theirs = (min(loops[number][0] for loops in found) for number in (0, 1))
            row = (f"`{task}`", evaluations, f"{theirs:.3f}", said(cpu), f"{ours / theirs:.3f}", said(wall))
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
