"""Before the first step: what is known to go wrong with this model under this optimizer, why, and what to do about it."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from thalweg.core.average import kind_of
from thalweg.core.gradient import clip_kind
from thalweg.core.names import describe
from thalweg.core.rule import Group
from thalweg.core.sharding import local
from thalweg.routing.decide import verdicts
from thalweg.routing.roles import Verdict

_LISTED = 4  # parameters in a message
_SAMPLE = 1 << 20  # elements of a parameter that are measured


class PreflightWarning(UserWarning):
    """A finding of ``preflight``."""


@dataclass(frozen=True)
class Finding:
    """One thing that is likely to go wrong."""

    what: str
    reason: str
    remedy: str
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(self.parameters[:_LISTED])
        more = f" and {len(self.parameters) - _LISTED} more" if len(self.parameters) > _LISTED else ""
        return f"{self.what}{f' ({shown}{more})' if shown else ''}: {self.reason}.  {self.remedy}."


@dataclass(frozen=True)
class Setup:
    """What a check looks at."""

    optimizer: torch.optim.Optimizer
    scheduler: object | None
    named: Mapping[int, tuple[str, Tensor]]
    """The model's parameters, by id."""
    verdicts: Mapping[int, Verdict]

    @property
    def groups(self) -> list[Group]:
        """The optimizer's."""
        return self.optimizer.param_groups

    def members(self, group: Group) -> Iterator[tuple[str, Tensor]]:
        """The model's parameters in a group, with their names."""
        return (self.named[id(p)] for p in group["params"] if id(p) in self.named)

    def name(self, i: int, j: int) -> str:
        """Of parameter j in group i, the model's or not."""
        known = self.named.get(id(self.groups[i]["params"][j]))
        return known[0] if known is not None else describe(self.groups, i, j)

    def rules(self, group: Group) -> set[str]:
        """What the group's optimizer is called: by its entry in a mix of rules, else by the optimizer's classes."""
        return (
            {group["optimizer"]} if "optimizer" in group else {c.__name__.lower() for c in type(self.optimizer).__mro__}
        )

    def is_muon(self, group: Group) -> bool:
        """Whether the group's updates are orthogonalised."""
        return "muon" in self.rules(group)


def preflight(model: nn.Module, optimizer: torch.optim.Optimizer, *, scheduler: object | None = None) -> list[Finding]:
    """Look for what is known to go wrong, and warn of each with its reason and its remedy.

    Looked for are: parameters in no group, in two, frozen, or not of the model; weight decay on norms and biases, or nowhere;
    Muon on what is no hidden matrix; clipping of a gradient whose update is orthogonalised; a schedule of the learning rate
    on a schedule-free optimizer; and a step too small for bfloat16 weights that are rounded to nearest.  Nothing is changed.

    Args:
        model: the model, wrapped or not.
        optimizer: any torch optimizer, made for it.
        scheduler: a learning rate scheduler that is not one of torch's; torch's are found by themselves.

    Returns:
        The findings, each of which was also a ``PreflightWarning``.
    """
    named = {id(p): (name, p) for name, p in model.named_parameters()}
    setup = Setup(optimizer, scheduler, named, verdicts(model))
    findings = [finding for check in CHECKS for finding in check(setup)]
    for finding in findings:
        warnings.warn(str(finding), PreflightWarning, stacklevel=2)
    return findings


def _missing(setup: Setup) -> Iterator[Finding]:
    held = {id(p) for group in setup.groups for p in group["params"]}
    left_out = tuple(name for key, (name, p) in setup.named.items() if p.requires_grad and key not in held)
    if left_out:
        yield Finding(
            "parameters in no group",
            "they require a gradient and the optimizer does not have them, so they stay as they were initialised",
            "Make the optimizer from model.named_parameters() or route(model), after the model is complete; to keep them"
            " fixed, set requires_grad=False",
            left_out,
        )


def _foreign(setup: Setup) -> Iterator[Finding]:
    foreign = tuple(
        setup.name(i, j)
        for i, group in enumerate(setup.groups)
        for j, p in enumerate(group["params"])
        if id(p) not in setup.named
    )
    if foreign:
        yield Finding(
            "parameters that are not the model's",
            "they get no gradient from it; this is what is left when fully_shard, a change of head or a new embedding replaces"
            " parameters after the optimizer was made",
            "Make the optimizer last",
            foreign,
        )


def _twice(setup: Setup) -> Iterator[Finding]:
    count = Counter(id(p) for group in setup.groups for p in group["params"])
    twice = tuple(setup.named[key][0] for key, n in count.items() if n > 1 and key in setup.named)
    if twice:
        yield Finding("parameters listed twice", "each step moves them twice", "Keep each in one group", twice)


def _frozen(setup: Setup) -> Iterator[Finding]:
    frozen = tuple(name for group in setup.groups for name, p in setup.members(group) if not p.requires_grad)
    if frozen:
        yield Finding(
            "frozen parameters in the optimizer",
            "requires_grad is False, so they get no gradient and are passed over, weight decay included",
            "Leave them out, as route(model) does, or set requires_grad=True if they should train",
            frozen,
        )


def _decay(setup: Setup) -> Iterator[Finding]:
    deciding = [group for group in setup.groups if group.get("weight_decay") is not None and group["params"]]
    if deciding and all(float(group["weight_decay"]) == 0 for group in deciding):
        yield Finding(
            "weight decay is zero everywhere",
            "weights then grow as long as they train; below a norm this lowers their effective learning rate, and in"
            " bfloat16 it makes steps too small for them",
            "Set weight_decay, 0.01 to 0.1 for AdamW and Muon, on the matrices; or keep 0 if that is meant",
        )
    decayed = tuple(
        name
        for group in deciding
        if float(group["weight_decay"]) != 0
        for name, p in setup.members(group)
        if (verdict := setup.verdicts.get(id(p))) is not None and verdict.role in ("norm", "vector")
    )
    if decayed:
        yield Finding(
            "weight decay on norms and biases",
            "it pulls gains towards 0, which scales the layer's output down, and bounds nothing that needs a bound",
            "Give them a group with weight_decay=0, as route(model) does",
            decayed,
        )


def _muon(setup: Setup) -> Iterator[Finding]:
    wrong: dict[str, list[str]] = {}
    for group in filter(setup.is_muon, setup.groups):
        for name, p in setup.members(group):
            verdict = setup.verdicts.get(id(p))
            if verdict is not None and verdict.role not in ("matrix", "frozen"):
                wrong.setdefault(verdict.role, []).append(name)
    for role, names in wrong.items():
        reason = _NO_MATRIX.get(role, "orthogonalising means something for a matrix between hidden layers only")
        article = "an" if role[0] in "aeiou" else "a"
        yield Finding(f"Muon on {article} {role}", reason, "Send it to AdamW, as route(model) does", tuple(names))


_NO_MATRIX = {
    "embedding": "its rows are looked up one by one; orthogonalised, rows of rare tokens move as far as those of frequent ones",
    "head": "its rows are classes, not features; Muon's own authors leave output layers to AdamW",
    "input": "it reads raw input, whose channels have a meaning of their own; Muon's own authors leave it to AdamW",
    "router": "its rows are experts, not features",
}


def _clip(setup: Setup) -> Iterator[Finding]:
    for group in filter(setup.is_muon, setup.groups):
        if (kind := clip_kind(group.get("clip"))) is None:
            continue
        bends = kind in ("value", "adaptive")
        yield Finding(
            f"clip={group['clip']!r} on updates that are orthogonalised",
            "it bends the direction before Muon normalises it, and does not bound the step, whose size is lr alone"
            if bends
            else "Muon's step has the same size whatever the gradient's norm is; clipping only lowers the weight of large"
            " gradients in the momentum",
            "Set clip=None in the groups of Muon and keep it in the others; to bound the step, lower lr",
            tuple(name for name, _ in setup.members(group)),
        )


def _schedule_free(setup: Setup) -> Iterator[Finding]:
    averaged = [group for group in setup.groups if _is_schedule_free(group)]
    scheduled = setup.scheduler is not None or hasattr(setup.optimizer.step, "_wrapped_by_lr_sched")
    if averaged and scheduled:
        yield Finding(
            "a learning rate schedule on a schedule-free optimizer",
            "its average of the iterates stands in place of a decay of the learning rate; with both, the steps become small"
            " while the average still waits for them",
            "Remove the scheduler and keep lr constant; a warm-up belongs to the optimizer",
        )


def _is_schedule_free(group: Group) -> bool:
    if "average" in group:
        return kind_of(group["average"]) == "schedule_free"
    return {"train_mode", "weight_lr_power"} <= group.keys()  # the schedulefree package's


def _rounding(setup: Setup) -> Iterator[Finding]:
    for group in setup.groups:
        if group.get("precision", "nearest") != "nearest":  # ours rounds stochastically unless told otherwise
            continue
        measured = [(name, p) for name, p in setup.members(group) if p.dtype == torch.bfloat16 and not p.is_meta]
        stuck = {name: _stuck(p, size) for name, p in measured if (size := _step_size(setup, group, p)) is not None}
        elements = {name: p.numel() for name, p in measured if name in stuck}
        portion = sum(stuck[name] * n for name, n in elements.items()) / max(sum(elements.values()), 1)
        if portion > 0.5:
            yield Finding(
                f"lr={_peak_lr(group):g} is too small to move bfloat16 weights",
                f"for {portion:.0%} of the weights of this group, a step of the expected size is less than half the distance"
                " to the next bfloat16 number, and rounding to nearest discards it",
                "Round stochastically, as thalweg's optimizers do by default; or keep float32 weights under autocast; or"
                " raise lr",
                tuple(name for name, part in stuck.items() if part > 0.5),
            )


def _step_size(setup: Setup, group: Group, p: Tensor) -> float | None:
    """The expected size of an element's step; None where it depends on the gradient's size, as in SGD."""
    if setup.is_muon(group) and p.ndim > 1:
        rows, columns = _as_matrix(group, p)
        # The root mean square of the elements of an orthogonal matrix is 1/√max(rows, columns).
        return _peak_lr(group) * _MUON_SCALES[_adjustment(group)](rows, columns) / math.sqrt(max(rows, columns))
    is_normalised = "betas" in group or {"rmsprop", "adadelta"} & setup.rules(group)
    return _peak_lr(group) if is_normalised else None


def _as_matrix(group: Group, p: Tensor) -> tuple[float, float]:
    """The rows and columns that Muon sees; of fused matrices, an average one's."""
    first, *others = p.shape[1:] if group.get("stacked") else p.shape
    rows, columns = (math.prod(others), first) if group.get("transposed") else (first, math.prod(others))
    return rows / max(len(group.get("splits") or ()), 1), columns


_MUON_SCALES: dict[str, Callable[[float, float], float]] = {
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral": lambda rows, columns: math.sqrt(rows / columns),
}


def _adjustment(group: Group) -> str:
    """What Muon scales its updates by: ``adjust`` here, ``adjust_lr_fn`` in torch."""
    return group.get("adjust") or group.get("adjust_lr_fn") or "original"


def _peak_lr(group: Group) -> float:
    """The largest learning rate that is known of: a warm-up starts below it."""
    known = [group.get(key) for key in ("lr", "initial_lr", "max_lr")]
    return max((float(lr) for lr in known if lr is not None), default=0.0)


@torch.no_grad()
def _stuck(p: Tensor, size: float) -> float:
    """The portion of a parameter's elements that a step of this size moves in neither direction."""
    flat = local(p).flatten()
    if not flat.numel():
        return 0.0
    sample = flat[:: -(-flat.numel() // _SAMPLE)]
    wide = sample.float()
    moves = ((wide + size).to(p.dtype) != sample) | ((wide - size).to(p.dtype) != sample)
    return 1.0 - moves.float().mean().item()


CHECKS: tuple[Callable[[Setup], Iterator[Finding]], ...] = (
    _missing,
    _foreign,
    _twice,
    _frozen,
    _decay,
    _muon,
    _clip,
    _schedule_free,
    _rounding,
)
