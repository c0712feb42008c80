"""Station 1: what is done to the gradient before the rule sees it.

``g`` is the gradient, ``p`` the parameter, both in the arithmetic dtype.  Each returns a new tensor: p.grad is never written.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor

from thalweg.core import parts
from thalweg.core.rule import Group, zeros
from thalweg.core.station import Station, station


@station("element")
def clip_global_norm(g: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """g · min(1, c / (‖g‖ + 1e-6)), the norm over every gradient of the optimizer, as torch's clip_grad_norm_."""
    return g * (h["clip"] / (h["grad_norm"] + 1e-6)).clamp(max=1.0)


@station("tensor")
def clip_norm(g: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """g · min(1, c / (‖g‖ + 1e-6)), the norm of each tensor by itself."""
    return parts.norm_clipped(g, h["clip"], 1e-6)


@station("tensor")
def clip_rms(g: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """R(g) = g · c / max(c, RMS(g)): Adafactor's update clipping, on the gradient."""
    return parts.rms_clipped(g, h["clip"])


@station("element")
def clip_value(g: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """Each element into [−c, c], as torch's clip_grad_value_."""
    return torch.clamp(g, min=-h["clip"], max=h["clip"])


@station("tensor")
def clip_adaptive(g: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """g · min(1, c · max(‖p‖, 1e-3) / ‖g‖) for each output unit.  AGC (arXiv:2102.06171, eq. 3)."""
    weight, slope = ((x * x).sum(dim=parts.row_dims(x), keepdim=True).sqrt() for x in (p, g))
    return g * (h["clip"] * weight.clamp(min=1e-3) / slope.clamp(min=1e-6)).clamp(max=1.0)


@station("tensor")
def centralize(g: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """g − s · rowmean(g), for tensors with more than one dimension.  Gradient centralization (arXiv:2004.01461)."""
    if g.ndim < 2 or parts.row_size(g) < 2:
        return g
    return parts.centralized(g, h["centralize"])


@station("tensor")
def normalize(g: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """(1−s)g + s · g/(σ + 1e-8), σ each row's standard deviation; a vector is one row and is left alone below 3 elements."""
    if parts.row_size(g) < (2 if g.ndim > 1 else 3):
        return g
    return parts.normalized(g, parts.row_dims(g), h["normalize"])


@station("tensor")
def normalize_whole(g: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """The same with σ over the whole tensor, which is left alone below 3 elements."""
    if g.numel() < 3:
        return g
    return parts.normalized(g, tuple(range(g.ndim)), h["normalize"])


@station("element", previous_grad=zeros)
def mars(g: Tensor, p: Tensor, h: dict[str, Any], *, previous_grad: Tensor) -> Tensor:
    """g + γβ/(1−β) · (g − g_{t−1}), from the second step on: MARS's variance reduction (arXiv:2411.10438, eq. 6)."""
    difference = (g - previous_grad) * (h["step"] > 1)
    previous_grad.copy_(g)
    return parts.variance_reduced(g, difference, h["mars"], h["mars_beta"])


@station("element")
def l2(g: Tensor, p: Tensor, h: dict[str, Any]) -> Tensor:
    """g + λp: weight decay as a penalty on the loss."""
    return g + p * h["weight_decay"]


CLIPS = {
    "global_norm": clip_global_norm,
    "norm": clip_norm,
    "rms": clip_rms,
    "value": clip_value,
    "adaptive": clip_adaptive,
}


def stations(group: Group) -> tuple[Station, ...]:
    """The stations this group's options ask for, in order; a neutral option adds none."""
    chosen: list[Station] = []
    if (kind := clip_kind(group["clip"])) is not None:
        chosen.append(CLIPS[kind])
    if group["centralize"]:
        chosen.append(centralize)
    if group["normalize"]:
        chosen.append(normalize if group["normalize_channels"] else normalize_whole)
    if group["mars"]:
        chosen.append(mars)
    if group["decay"] == "l2" and weight_decay_acts(group):
        chosen.append(l2)
    return tuple(chosen)


def momentum_of(group: Group) -> Any:
    """The decay rate of the rule's own momentum, which MARS and schedule-free averaging take for theirs; else 0.9."""
    return group["betas"][0] if "betas" in group else group.get("momentum") or 0.9


def clip_kind(clip: Any) -> str | None:
    """``clip=1.0`` is short for ``clip=("global_norm", 1.0)``."""
    return None if clip is None else clip[0] if _is_pair(clip) else "global_norm"


def clip_bound(clip: Any) -> float:
    """The number in either form."""
    return clip[1] if _is_pair(clip) else clip


def _is_pair(clip: Any) -> TypeGuard[tuple[str, float]]:
    return isinstance(clip, tuple | list)


def weight_decay_acts(group: Group) -> bool:
    """A tensor may become non-zero later, so it always acts."""
    decay = group["weight_decay"]
    return isinstance(decay, Tensor) or decay != 0
