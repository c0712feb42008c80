"""The options every optimizer shares, their neutral defaults, and the check of all values before anything is changed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypedDict

from torch import Tensor

from thalweg.core.gradient import CLIPS, clip_bound, clip_kind
from thalweg.core.rule import Group, Range, Rule, nonnegative, portion

ClipKind: TypeAlias = Literal["global_norm", "norm", "rms", "value", "adaptive"]
Clip: TypeAlias = float | tuple[ClipKind, float]
Decay: TypeAlias = Literal["decoupled", "l2", "cautious"]
Precision: TypeAlias = Literal["auto", "stochastic", "nearest"]
Nonfinite: TypeAlias = Literal["propagate", "skip", "raise"]
Run: TypeAlias = Literal["auto", "each", "foreach", "compiled"]


class Options(TypedDict, total=False):
    """Keywords every optimizer takes beside its own.  The neutral value of each costs nothing."""

    centralize: float
    """Strength s in g − s·rowmean(g); 0 is off."""
    normalize: float
    """Strength s in (1−s)g + s·g/std(g), by row; 0 is off."""
    clip: Clip | None
    """Bound on the gradient: a number for the global norm, or a pair of kind and number."""
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
    maximize: bool
    """Ascend."""
    run: Run
    """How the step is executed."""


DEFAULTS: dict[str, Any] = {
    "centralize": 0.0,
    "normalize": 0.0,
    "clip": None,
    "cautious": False,
    "decay": "l2",
    "precision": "auto",
    "seed": 0,
    "nonfinite": "propagate",
    "maximize": False,
    "run": "auto",
}
OPTION_NUMBERS = ("lr", "weight_decay", "centralize", "normalize", "seed")

_CHOICES: dict[str, tuple[str, ...]] = {
    "decay": Decay.__args__,
    "precision": Precision.__args__,
    "nonfinite": Nonfinite.__args__,
    "run": Run.__args__,
}
_RANGES = {"lr": nonnegative, "weight_decay": nonnegative, "centralize": portion, "normalize": portion, "seed": nonnegative}


def check(owner: str, rule: Rule, defaults: Group, group: Group) -> None:
    """Raise for the first hyperparameter or option of a new group that is not of its kind or out of its range.

    Raises:
        TypeError: a value of the wrong kind.
        ValueError: a value out of its range, or an unknown choice.
    """
    near = {n: difflib.get_close_matches(n, defaults, n=1, cutoff=0.8) for n in group if n not in defaults}
    for name, matches in near.items():
        if matches and name != "params":
            raise TypeError(f"{owner}: unknown entry {name!r} in a parameter group; did you mean {matches[0]!r}?")
    group = defaults | group
    for name, allowed in (_RANGES | dict(rule.ranges)).items():
        values = group[name] if isinstance(group[name], tuple | list) else [group[name]]
        if isinstance(defaults[name], tuple) and len(values) != len(defaults[name]):
            raise ValueError(f"{owner}: {name}={group[name]!r} must be {len(defaults[name])} numbers.")
        for i, value in enumerate(values):
            _check_number(f"{owner}: {name}" + (f"[{i}]" if len(values) > 1 else ""), value, allowed)
    for name, choices in _CHOICES.items():
        if group[name] not in choices:
            raise ValueError(f"{owner}: {name}={group[name]!r} is unknown; choose one of {', '.join(map(repr, choices))}.")
    for name, value in group.items():
        if isinstance(DEFAULTS.get(name), bool) and not isinstance(value, bool):
            raise TypeError(f"{owner}: {name}={value!r} must be True or False.")
    _check_clip(owner, group["clip"])


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError for a keyword that no optimizer of this kind takes, with the nearest that it does."""
    known = sorted(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}."
            if name in ("foreach", "fused", "capturable", "differentiable"):
                hint = 'execution is chosen by run="auto", "each", "foreach" or "compiled".'
            raise TypeError(f"{owner}: unknown argument {name!r}; {hint}")


def _check_number(what: str, value: Any, allowed: Range) -> None:
    if isinstance(value, Tensor):
        if value.ndim != 0 and value.numel() != 1:
            raise ValueError(f"{what} has shape {tuple(value.shape)}; as a tensor it must be 0-D.")
        if value.device.type != "cpu":
            return  # reading it would wait for the device
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what}={value!r} must be a number.")
    if not math.isfinite(value) or value not in allowed:
        raise ValueError(f"{what}={value!r} is out of range; allowed is {allowed}.")


def _check_clip(owner: str, clip: Any) -> None:
    if clip is None:
        return
    if isinstance(clip, tuple | list) and (len(clip) != 2 or clip_kind(clip) not in CLIPS):  # type: ignore[arg-type]
        raise ValueError(f"{owner}: clip={clip!r} must be a number or a pair of one of {', '.join(CLIPS)} and a number.")
    _check_number(f"{owner}: clip", clip_bound(clip), nonnegative)
