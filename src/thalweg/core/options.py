"""The options every optimizer shares, their neutral defaults, and the check of all values before anything is changed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypedDict, cast, get_args

from thalweg.core.allowed import Allowed, Choice, Range, flag, fraction, nonnegative, portion
from thalweg.core.average import beta_of, kind_of
from thalweg.core.gradient import clip_bound
from thalweg.core.rule import Group, Rule

ClipKind: TypeAlias = Literal["global_norm", "norm", "rms", "value", "adaptive"]
Clip: TypeAlias = float | tuple[ClipKind, float]
Decay: TypeAlias = Literal["decoupled", "l2", "cautious", "preconditioned"]
Precision: TypeAlias = Literal["auto", "stochastic", "nearest"]
Nonfinite: TypeAlias = Literal["propagate", "skip", "raise"]
AverageKind: TypeAlias = Literal["schedule_free", "ema"]
Average: TypeAlias = AverageKind | tuple[AverageKind, float]
Run: TypeAlias = Literal["auto", "each", "foreach", "compiled"]


class OptionsButClip(TypedDict, total=False):
    """The options, for a class that has an argument ``clip`` of its own."""

    centralize: float
    """Strength s in g − s·rowmean(g); 0 is off."""
    normalize: float
    """Strength s in (1−s)g + s·g/std(g); 0 is off."""
    normalize_channels: bool
    """Whether that std is each row's, or the whole tensor's."""
    cautious: bool
    """Move only where update and gradient agree in sign."""
    decay: Decay
    """What ``weight_decay`` means."""
    precision: Precision
    """How bfloat16 parameters are rounded: auto is stochastic."""
    seed: int
    """Seed of stochastic rounding."""
    nonfinite: Nonfinite
    """What a NaN or infinite gradient does."""
    mars: float
    """γ in g + γβ/(1−β)·(g − g_{t−1}); 0 is off."""
    average: Average | None
    """Average of the path, which ``eval()`` puts into the parameters: a kind, or a pair of kind and β."""
    warmup_steps: int
    """Schedule-free: steps over which the learning rate rises from zero."""
    r: float
    """Schedule-free: step t weighs tʳ in the average."""
    weight_lr_power: float
    """Schedule-free: and the largest learning rate so far to this power."""
    maximize: bool
    """Ascend."""
    run: Run
    """How the step is executed."""
    diagnostics: bool
    """Measure each step, for ``optimizer.diagnostics()``."""


class Options(OptionsButClip, total=False):
    """Keywords every optimizer takes beside its own.  The neutral value of each costs nothing."""

    clip: Clip | None
    """Bound on the gradient: a number for the global norm, or a pair of kind and number."""


DEFAULTS: dict[str, Any] = {
    "centralize": 0.0,
    "normalize": 0.0,
    "normalize_channels": True,
    "clip": None,
    "cautious": False,
    "decay": "l2",
    "precision": "auto",
    "seed": 0,
    "nonfinite": "propagate",
    "mars": 0.0,
    "average": None,
    "warmup_steps": 0,
    "r": 0.0,
    "weight_lr_power": 2.0,
    "train_mode": True,
    "maximize": False,
    "run": "auto",
    "diagnostics": False,
}
_NEUTRAL = DEFAULTS | {"weight_decay": 0.0}
OPTION_NUMBERS = ("lr", "weight_decay", "centralize", "normalize", "mars", "seed")

_ALLOWED: dict[str, Allowed] = {
    "lr": nonnegative,
    "weight_decay": nonnegative,
    "centralize": portion,
    "normalize": portion,
    "normalize_channels": flag,
    "cautious": flag,
    "decay": Choice(get_args(Decay)),
    "precision": Choice(get_args(Precision)),
    "seed": Range(0, 1 << 31, whole=True),
    "nonfinite": Choice(get_args(Nonfinite)),
    "mars": nonnegative,
    "warmup_steps": Range(0, 1 << 31, whole=True),
    "r": nonnegative,
    "weight_lr_power": nonnegative,
    "train_mode": flag,
    "maximize": flag,
    "run": Choice(get_args(Run)),
    "diagnostics": flag,
}


def check(owner: str, rule: Rule, group: Group) -> None:
    """Raise for the first hyperparameter or option that is not of its kind or out of its range.

    Raises:
        TypeError: a value of the wrong kind.
        ValueError: a value out of its range, or an unknown choice.
    """
    for name, allowed in (_ALLOWED | dict(rule.allowed)).items():
        allowed.check(f"{owner}: {name}", group[name])
    if group["decay"] == "preconditioned" and not rule.preconditions and "decay" not in rule.hyperparameters:
        raise ValueError(
            f"{owner}: decay='preconditioned' is for rules that have a preconditioner to give; {rule} has none."
        )
    if (clip := group["clip"]) is not None:
        if isinstance(clip, tuple | list) and not _is_pair_of(clip, ClipKind):
            kinds = ", ".join(get_args(ClipKind))
            raise ValueError(f"{owner}: clip={clip!r} must be a number or a pair of one of {kinds} and a number.")
        nonnegative.check(f"{owner}: clip", clip_bound(clip))
    _check_average(owner, group)


def _check_average(owner: str, group: Group) -> None:
    average = group["average"]
    kinds = get_args(AverageKind)
    if average is not None and average not in kinds and not _is_pair_of(average, AverageKind):
        raise ValueError(
            f"{owner}: average={average!r} must be None, one of {', '.join(map(repr, kinds))}, or a pair of one of them and β."
        )
    kind = kind_of(average)
    if kind == "ema":
        fraction.check(f"{owner}: average='ema': β", beta_of(group))
    if kind == "schedule_free":
        Range(1e-6, 1.0, closed=True).check(f"{owner}: average='schedule_free': β", beta_of(group))
    elif idle := [n for n in ("warmup_steps", "r", "weight_lr_power") if group[n] != DEFAULTS[n]]:
        raise ValueError(f"{owner}: {idle[0]}={group[idle[0]]!r} is for average='schedule_free'; this is {average!r}.")


def _is_pair_of(value: Any, kind: Any) -> bool:
    """Whether ``value`` is a pair that begins with a choice of a Literal."""
    return isinstance(value, tuple | list) and len(cast("list[Any]", value)) == 2 and value[0] in get_args(kind)


def left_to_stations(rule: Rule, group: Group) -> Group:
    """The group with the options that the rule itself takes at their neutral values."""
    return group | {name: value for name, value in _NEUTRAL.items() if name in rule.hyperparameters}


def split_clip(clip: Clip, bound: float) -> tuple[float, Clip | None]:
    """For a rule with a bound of its own called clip: that bound, and the option, which is a pair there."""
    return (bound, clip) if isinstance(clip, tuple | list) else (clip, None)


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError for a keyword that this optimizer does not take, with the nearest that it does."""
    known = sorted(known)
    for name in given:
        if name in known:
            continue
        if name in ("foreach", "fused", "capturable", "differentiable"):
            hint = 'how a step is executed is chosen by run="auto", "each", "foreach" or "compiled".'
        elif near := difflib.get_close_matches(name, known, n=1):
            hint = f"did you mean {near[0]!r}?"
        else:
            hint = f"it takes {', '.join(known)}."
        raise TypeError(f"{owner}: unknown argument {name!r}; {hint}")
