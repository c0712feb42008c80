"""How much learning rate a governed run forgives: one command, a few minutes, two tables.

    python benchmarks/robustness_quick.py

The network and splits of the lab's digits-mlp, batches of 64: final training loss and test accuracy over four decades of
learning rate, plain and under ``thalweg.DCAO``, mean over seeds.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

import thalweg
from thalweg.control import DCAO
from thalweg.lab.tasks import load_task
from thalweg.lab.tasks.digits import digits
from thalweg.lab.tasks.task import epochs, stream

BASES: dict[str, tuple[float, Callable[[Any, float], Optimizer]]] = {
    "SGD-momentum": (0.1, lambda params, lr: thalweg.SGD(params, lr, momentum=0.9)),
    "AdamW": (3e-3, lambda params, lr: thalweg.AdamW(params, lr)),
}
"""By name: a good learning rate on this task, and how to make the optimizer."""

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": F.cross_entropy,
    "squared error": lambda z, y: 0.5 * (z - F.one_hot(y, 10)).square().sum(1).mean(),
}


def train(
    base: str, lr: float, loss: str, seed: int, steps: int, policy: dict[str, Any] | None
) -> tuple[float, float, float]:
    """Final training loss, test accuracy, and extra gradient-equivalents a step, of one run."""
    data, model = digits(), load_task("digits-mlp").model(seed)
    batches = epochs(*data.train, 64)(torch.Generator().manual_seed(stream(seed, "batches")))
    plain = BASES[base][1](model.parameters(), lr)
    optimizer: Any = plain if policy is None else DCAO(base=plain, **policy)
    extra = 0.0
    for _ in range(steps):
        x, y = next(batches)

        def loss_fn(x: Tensor = x, y: Tensor = y) -> Tensor:
            return LOSSES[loss](model(x), y)

        optimizer.zero_grad()
        value: Any = loss_fn()
        value.backward()
        if policy is None:
            optimizer.step()
        else:
            optimizer.step(loss_fn)
            extra += float(optimizer.used.gradient_equivalents)
    return *judged(model, loss), extra / steps


@torch.no_grad()
def judged(model: nn.Module, loss: str) -> tuple[float, float]:
    """Loss on all training examples, and accuracy on the test split."""
    data = digits()
    value = LOSSES[loss](model(data.train[0]), data.train[1]).item()
    right = (model(data.test[0]).argmax(1) == data.test[1]).float().mean().item()
    return value if math.isfinite(value) else math.inf, right


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--loss", choices=LOSSES, action="append")
    parser.add_argument("--base", choices=BASES, action="append")
    parser.add_argument("--decades", type=float, nargs="+", default=[-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2])
    parser.add_argument("--set", nargs="*", default=[], help="constants of the policy, name=value")
    parser.add_argument("--governed-only", action="store_true")
    asked = parser.parse_args()
    constants = {
        n: v if v in ("values", "product") else float(v) if "." in v else int(v)
        for n, v in (entry.split("=") for entry in asked.set)
    }
    ways: dict[str, dict[str, Any] | None] = {"plain": None, "governed": constants}
    for loss in asked.loss or LOSSES:
        for base in asked.base or BASES:
            print(f"\n{base}, {loss}: loss / accuracy at lr = …")
            rates = [BASES[base][0] * 10**d for d in asked.decades]
            print("| | " + " | ".join(f"{lr:.2g}" for lr in rates) + " | extra |")
            print("|---" * (len(rates) + 2) + "|")
            for way, policy in ways.items():
                if way == "plain" and asked.governed_only:
                    continue
                cells, extras = [], []
                for lr in rates:
                    runs = [
                        train(base, lr, loss, asked.first_seed + s, asked.steps, policy) for s in range(asked.seeds)
                    ]
                    losses, rights, extra = (sum(column) / len(runs) for column in zip(*runs, strict=True))
                    cells.append(f"{losses:.3g} / {100 * rights:.1f}")
                    extras.append(extra)
                print(f"| {way} | " + " | ".join(cells) + f" | {100 * sum(extras) / len(extras):.1f} % |", flush=True)


if __name__ == "__main__":
    main()
