"""Compile time and recompiles of `run="compiled"`, measured in fresh processes.

Cold starts with an empty cache directory, warm with the one that the cold process has filled. Both count the first
step from the first line that imports the compiler, which is what a user waits for; importing torch is not counted.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass

import torch
from torch.optim import Optimizer

from thalweg.lab.bench.models import MODELS, parameters
from thalweg.lab.bench.subjects import RULES, ours

STEADY_STEPS = 12


@dataclass(frozen=True)
class Probe:
    """One process: seconds of its first step, of which importing the compiler, and recompiles afterwards."""

    first_step: float
    importing: float
    recompiles: int


@dataclass(frozen=True)
class Compiling:
    """A rule's cold and warm first step in seconds, and the recompiles of either process in steady state."""

    rule: str
    cold: float
    warm: float
    importing: float
    recompiles: int


def measure(rule: str, model: str, *, device: str, dtype: str, threads: int) -> Compiling:
    """Probe a rule twice over one new cache directory: cold, then warm."""
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-") as cache:
        cold, warm = (_fresh_process(rule, model, device, dtype, threads, cache) for _ in range(2))
    return Compiling(
        rule, cold.first_step, warm.first_step, warm.importing, recompiles=cold.recompiles + warm.recompiles
    )


def _fresh_process(rule: str, model: str, device: str, dtype: str, threads: int, cache: str) -> Probe:
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": os.path.join(cache, "triton")}
    command = [sys.executable, "-m", __name__, rule, model, device, dtype, str(threads)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"the compile probe of {rule} ended with {finished.returncode}:\n{finished.stderr}")
    return Probe(**json.loads(finished.stdout.splitlines()[-1]))


def probe(rule: str, model: str, *, device: str, dtype: str, threads: int) -> Probe:
    """Compile in this process, once; meaningful in a fresh one only."""
    torch.set_num_threads(threads)
    params = parameters(MODELS[model](), device=device, dtype=getattr(torch, dtype))
    optimizer = ours(RULES[rule], "compiled").build(params)
    start = time.perf_counter()
    importlib.import_module("torch._inductor.compile_fx")
    imported = time.perf_counter()
    optimizer.step()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    end = time.perf_counter()
    return Probe(end - start, imported - start, recompiles(optimizer))


def recompiles(optimizer: Optimizer) -> int:
    """How many graphs torch compiles while steps go on and lr, weight decay, momentum and betas change."""
    for _ in range(3):
        optimizer.step()
    before = _graphs()
    for i in range(STEADY_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * 0.9
            for name in ("weight_decay", "momentum"):
                if group.get(name):
                    group[name] = group[name] * 0.99
            if "betas" in group:
                group["betas"] = (0.9 - 0.01 * i, 0.999 - 0.001 * i)
        optimizer.step()
    return _graphs() - before


def _graphs() -> int:
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"] + counters["aot_autograd"]["total"])


def _main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("rule", "model", "device", "dtype"):
        parser.add_argument(name)
    parser.add_argument("threads", type=int)
    print(json.dumps(asdict(probe(**vars(parser.parse_args())))))


if __name__ == "__main__":
    _main()
