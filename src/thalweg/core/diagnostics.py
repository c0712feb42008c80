"""What a step did, in a few numbers a group: measured from outside, on the parameters before and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from thalweg.core.rule import Group
from thalweg.core.sharding import local, whole

SAMPLE = 1 << 14  # elements of a parameter that the preconditioner's range is read from


@dataclass(frozen=True)
class Watched:
    """The parameters of one group that a step is about to move, and a copy of them."""

    group: Group
    params: Sequence[Tensor]
    before: Sequence[Tensor]


def watch(groups: Sequence[Group]) -> list[Watched | None]:
    """Copy the parameters of the groups that ask for it."""
    active = [[p for p in group["params"] if p.grad is not None and p.numel()] for group in groups]
    return [
        Watched(group, params, [p.detach().clone() for p in params]) if group["diagnostics"] and params else None
        for group, params in zip(groups, active, strict=True)
    ]


def measure(watched: Watched) -> dict[str, Tensor]:
    """The numbers of one group, as 0-D tensors where the parameters are: nothing waits for the device."""
    sums: dict[str, Tensor] = {}
    gains: list[Tensor] = []
    sign = -1.0 if watched.group["maximize"] else 1.0
    for p, before in zip(watched.params, watched.before, strict=True):
        g = p.grad.detach().float() * sign  # pyright: ignore[reportOptionalMemberAccess]
        step, weight = before.float() - p.detach().float(), before.float()
        own = {
            "step": step * step,
            "weight": weight * weight,
            "gradient": g * g,
            "product": step * g,
            "against": (step * g <= 0).float(),
        }
        for name, x in own.items():
            sums[name] = sums.get(name, 0.0) + whole(x.sum())
        gain = (local(step).abs() / local(g).abs()).flatten()
        gains.append(gain[:: max(1, gain.numel() // SAMPLE)])
    n = sum(p.numel() for p in watched.params)
    gain = torch.cat(gains) / watched.group["lr"]
    low, high = torch.nanquantile(gain, gain.new_tensor([0.01, 0.99]))
    length, slope = sums["step"].sqrt(), sums["gradient"].sqrt()
    return {
        "update_rms": length / n**0.5,
        "update_to_weight": length / sums["weight"].sqrt(),
        "effective_lr": length / slope,
        "cosine": sums["product"] / (length * slope),
        "masked": sums["against"] / n,
        "preconditioner_low": low,
        "preconditioner_high": high,
    }


def read(measured: Sequence[dict[str, Tensor] | None], groups: Sequence[Group]) -> list[dict[str, float]]:
    """The numbers as floats, with each group's lr; an empty dict for a group that was not measured."""
    return [
        {"lr": float(group["lr"])} | {name: float(x) for name, x in numbers.items()} if numbers else {}
        for numbers, group in zip(measured, groups, strict=True)
    ]
