"""Station 5: how the update enters the parameter, and what average of its path is evaluated in its place."""

from __future__ import annotations

from typing import Any, TypeGuard

from torch import Tensor

from thalweg.core import parts
from thalweg.core.gradient import momentum_of
from thalweg.core.rule import Group, Recurrence, Scalar, as_parameter
from thalweg.core.station import Station, station


@station("element")
def plain(p: Tensor, u: Tensor, h: dict[str, Any]) -> Tensor:
    """p ← p − ηu."""
    return parts.moved(p, u, h["lr"])


@station("element", ema=as_parameter)
def ema(p: Tensor, u: Tensor, h: dict[str, Any], *, ema: Tensor) -> Tensor:
    """p ← p − ηu,  e ← βe + (1−β)p; the first average is the first p, as in ``torch.optim.swa_utils``."""
    p = plain.apply(p, u, h)
    beta = h["average_beta"] * ((h["step"] > 1) * 1.0)
    ema.lerp_(p, 1 - beta)
    return p


def warmed_up(lr: Scalar, t: Scalar, warmup_steps: Scalar) -> Scalar:
    """γ = η · min(1, t/n): the linear warm-up over n steps."""
    return lr * parts.at_most(t / parts.at_least(warmup_steps, 1), 1.0)


def weight(t: Scalar, lr_max: Scalar, r: Scalar, weight_lr_power: Scalar) -> Scalar:
    """w = tʳ · (max γ)ᵖ: the weight of step t in the average.  arXiv:2405.15682, sect. 2, and its code."""
    return t**r * lr_max**weight_lr_power


def _largest(lr_max: Scalar, t: Scalar, *, lr: Scalar, warmup_steps: Scalar, **_: Any) -> Scalar:
    return parts.at_least(warmed_up(lr, t, warmup_steps), lr_max)


def _summed(weight_sum: Scalar, t: Scalar, *, lr_max: Scalar, r: Scalar, weight_lr_power: Scalar, **_: Any) -> Scalar:
    return weight_sum + weight(t, lr_max, r, weight_lr_power)


@station("element", z=as_parameter, lr_max=Recurrence(0.0, _largest), weight_sum=Recurrence(0.0, _summed))
def schedule_free(y: Tensor, u: Tensor, h: dict[str, Any], *, z: Tensor) -> Tensor:
    """z ← z − γu,  x ← (1−c)x + cz,  y ← βx + (1−β)z, where x is not stored.  Defazio et al. 2024 (arXiv:2405.15682, eq. 3-5).

    The gradient was taken at y.  Put in terms of y and z alone: y ← (1−c)y + cz − γ(1 − β(1−c))u, with the old z.
    """
    beta, lr = h["average_beta"], warmed_up(h["lr"], h["step"], h["warmup_steps"])
    w = weight(h["step"], h["lr_max"], h["r"], h["weight_lr_power"])
    c = w / parts.at_least(h["weight_sum"], 1e-300)  # 0 while every learning rate was
    y = parts.moved(y.lerp_(z, c), u, lr * (1 - beta * (1 - c)))
    parts.moved(z, u, lr)
    return y


AVERAGES = {None: plain, "ema": ema, "schedule_free": schedule_free}


def of(group: Group) -> Station:
    """The station that this group's options ask for."""
    return AVERAGES[kind_of(group["average"])]


def moves_all(group: Group) -> bool:
    """Whether the parameter is one of several sequences that the update moves."""
    return of(group) is schedule_free


def evaluated(group: Group, y: Tensor, state: dict[str, Tensor]) -> Tensor:
    """What a group's average evaluates in place of the trained weights ``y``, in the dtype of the state."""
    if kind_of(group["average"]) == "ema":
        return state["ema"]
    z = state["z"]
    return y.to(z.dtype).lerp(z, 1 - 1 / float(beta_of(group)))  # x, from y = βx + (1−β)z


def numbers(group: Group) -> dict[str, Any]:
    """The numbers that the group's station reads."""
    kind = kind_of(group["average"])
    own = {name: group[name] for name in ("warmup_steps", "r", "weight_lr_power")} if kind == "schedule_free" else {}
    return own | {"average_beta": beta_of(group)} if kind else {}


def kind_of(average: Any) -> str | None:
    """``average="ema"`` is short for a pair with the usual β."""
    return average[0] if _is_pair(average) else average


def beta_of(group: Group) -> Any:
    """The β of the average: given in a pair; else 0.999 of an EMA, and the rule's own momentum when schedule-free."""
    average = group["average"]
    return average[1] if _is_pair(average) else 0.999 if average == "ema" else momentum_of(group)


def _is_pair(average: Any) -> TypeGuard[tuple[str, float]]:
    return isinstance(average, tuple | list)
