"""The bracket around the five stations: float32 in, the parameter's own dtype out.

Parameters in bfloat16 or float16 are computed on, and their state kept, in float32, and rounded once, on the write.  Rounded
to the nearest, a bfloat16 weight ignores every update smaller than 1/256 of it; rounded at random in proportion, it follows
the float32 run on average (arXiv:2010.06192).  The random bits are a hash of seed, step and element, so they need no generator
state, are the same under every execution strategy, and continue exactly after a checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from thalweg.core.rule import Group, Scalar
from thalweg.core.tensorlist import TensorList

_LOW_PRECISION = (torch.bfloat16, torch.float16)


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of state and arithmetic for a parameter of this dtype."""
    return torch.float32 if dtype in _LOW_PRECISION else dtype


def rounds_stochastically(group: Group, dtype: torch.dtype) -> bool:
    """Whether the write rounds at random: bfloat16 unless asked for nearest; never float16, whose exponent range is short."""
    return dtype == torch.bfloat16 and group["precision"] != "nearest"


def narrow(w: Any, p: Any, t: Scalar, h: dict[str, Any], lane: Any) -> Any:
    """``w`` in the dtype of ``p``; ``lane`` numbers p's first element, or is None for rounding to the nearest."""
    if isinstance(w, TensorList):
        return w.map(lambda *row: narrow(row[0], row[1], t, h, row[2]), p, lane)
    if lane is None:
        return w.to(p.dtype)
    seed, step = (x.long() if isinstance(x, Tensor) else int(x) for x in (h["seed"], t))
    return stochastic_round(w, _noise(w, lane, _mix(_mix(step) ^ seed)))


def stochastic_round(w: Tensor, noise: Tensor) -> Tensor:
    """float32 → bfloat16, up with probability equal to the fraction cut off; ``noise`` holds 16 random bits an element.

    NaN and ±inf pass unchanged: the addition would carry out of their exponent.
    """
    bits = (w.view(torch.int32) + noise.to(torch.int32)) & -65536  # add 16 random bits below bfloat16's, cut them off
    return torch.where(torch.isfinite(w), bits.view(torch.float32), w).to(torch.bfloat16)


def _noise(w: Tensor, lane: Tensor, key: Scalar) -> Tensor:
    """16 random bits for each element of ``w``, a function of its number in the optimizer and the step's key alone."""
    elements = torch.arange(w.numel(), device=w.device, dtype=torch.int64).view(w.shape)
    return _mix((elements + lane) ^ key) & 0xFFFF


def _mix(x: Any) -> Any:
    """A 32-bit finalizer (xor-shift, multiply); the multiplier stays below 2³¹ so that int64 products never overflow."""
    x = ((x >> 16) ^ x) * 0x7FEB352D & 0xFFFFFFFF
    x = ((x >> 15) ^ x) * 0x045D9F3B & 0xFFFFFFFF
    return (x >> 16) ^ x
