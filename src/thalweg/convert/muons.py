"""Muon of torch, of K. Jordan and of Moonlight: how each keeps its momentum, and which parameters AdamW steps."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from thalweg.convert.form import Converted, Form, Group, Saved, States, chosen, listing, rewritten, same, stepped
from thalweg.core.matrices import ADJUST, COEFFICIENTS

BUFFER = "momentum_buffer"
QUINTIC = COEFFICIENTS["quintic"](1)[0]
ADAM_STATE = same("exp_avg", "exp_avg_sq", "step")
ADAM: Group = {"optimizer": "adamw", "decay": "decoupled", "amsgrad": False}
MUON: Group = {
    "decay": "decoupled",
    "adjust": "original",
    "coefficients": "quintic",
    "nesterov": True,
    "ns_steps": 5,
    "eps": 1e-7,
    "ema": True,
}

TORCH = Form(
    "torch.optim.Muon",
    same("lr", "weight_decay", "momentum", "nesterov", "ns_steps", "eps") | {"adjust_lr_fn": "adjust"},
    same(BUFFER),
    {name: MUON[name] for name in ("decay", "coefficients", "ema")},
    values={"adjust": lambda name: name or "original"},
    only={"ns_coefficients": (QUINTIC, list(QUINTIC))},
)

KELLER_DROPPED = frozenset(("use_muon", "update_buffer", "update_buffer_views", "rank", "world_size"))
KELLER = Form(  # what its constructor has no argument for, older ones had
    "Muon",
    same("lr", "momentum", "weight_decay", "nesterov", "ns_steps") | {"backend_steps": "ns_steps"},
    same(BUFFER),
    MUON | {"weight_decay": 0.0},
    only={"backend": ("newtonschulz5",)},
    dropped=KELLER_DROPPED,
)
KELLER_MIXED = replace(KELLER, name="MuonWithAuxAdam, use_muon=True", own=KELLER.own | {"optimizer": "muon"})
KELLER_ADAM = Form(
    "MuonWithAuxAdam, use_muon=False",
    same("lr", "betas", "eps", "weight_decay"),
    ADAM_STATE,
    ADAM,
    dropped=KELLER_DROPPED,
)
NOT_KELLERS = {
    "ns_coefficients": "it is of torch.optim.Muon; take source='torch_muon'.",
    "wd": "it is of Moonlight's Muon; take source='moonlight'.",
    "use_adjusted_lr": "it is of pytorch_optimizer; take source='pytorch_optimizer', optimizer='Muon'.",
    "dampening": "it is of SGD.",
}

ONE_GROUP = frozenset(("adamw_betas", "adamw_eps", "adamw_wd", "adamw_lr_ratio", "wd", *KELLER_DROPPED))
MOMENTS = {"moment1": "exp_avg", "moment2": "exp_avg_sq", "step": "step"}
MOONLIGHT = Form(
    "Moonlight's Muon, use_muon=True",
    same("lr", "momentum", "nesterov", "ns_steps") | {"wd": "weight_decay"},
    same(BUFFER),
    {n: MUON[n] for n in ("decay", "coefficients", "eps")}
    | dict(adjust="match_rms_adamw", ema=False, optimizer="muon"),
    dropped=ONE_GROUP,
)
MOONLIGHT_ADAM = Form(
    "Moonlight's Muon, use_muon=False",
    same("lr") | {"wd": "weight_decay", "adamw_betas": "betas", "adamw_eps": "eps"},
    MOMENTS,
    ADAM,
    dropped=ONE_GROUP | {"momentum", "nesterov", "ns_steps"},
)
# K. Jordan's class of 2024, from which Moonlight's was made
KELLER_2024 = replace(
    MOONLIGHT,
    name="Muon of 2024, use_muon=True",
    group=same("lr", "momentum", "nesterov", "ns_steps"),
    own=MOONLIGHT.own | {"adjust": "original", "weight_decay": 0.0},
)
KELLER_2024_ADAM = replace(
    MOONLIGHT_ADAM,
    name="Muon of 2024, use_muon=False",
    group=same("lr") | {"adamw_wd": "weight_decay", "adamw_betas": "betas", "adamw_eps": "eps"},
)


def of_torch_muon(saved: Saved) -> Converted:
    """A group of torch.optim.Muon."""
    yield muon(saved, chosen(saved, [TORCH], {}))


def of_moonlight(saved: Saved) -> Converted:
    """The one group of Moonlight's Muon, as two: its matrices, then the parameters that AdamW steps."""
    for part, is_muon in _parted(saved):
        form = chosen(part, [MOONLIGHT if is_muon else MOONLIGHT_ADAM], {})
        yield muon(part, form) if is_muon else rewritten(part, form)


def of_keller(saved: Saved) -> Converted:
    """A group of Muon or of MuonWithAuxAdam, distributed or not; or the one group of the class of 2024, as two."""
    if "adamw_lr_ratio" in saved.group:
        for part, is_muon in _parted(saved):
            group, states = muon(part, KELLER_2024) if is_muon else rewritten(part, KELLER_2024_ADAM)
            if not is_muon:
                ratio = saved.group["adamw_lr_ratio"]
                group |= {name: group[name] * ratio for name in ("lr", "initial_lr") if name in group}
            yield group, states
    elif saved.group.get("use_muon") is False:
        yield rewritten(saved, chosen(saved, [KELLER_ADAM], NOT_KELLERS))
    else:
        form = chosen(saved, [KELLER_MIXED if "use_muon" in saved.group else KELLER], NOT_KELLERS)
        _report_kernels(saved)
        group, states = muon(saved, form if not saved.told.summed else replace(form, own=form.own | {"ema": False}))
        yield group | ({"stacked": True} if _stacked(saved) else {}), states


def muon(saved: Saved, form: Form) -> tuple[Group, States]:
    """A group of matrices; its momentum as the sum or the average that was asked for, whose steps are the same."""
    group, states = rewritten(saved, form)
    states = stepped(states, 1, saved.where)  # they keep none; Muon's steps do not depend on it
    ema = group["ema"] if saved.told.ema is None else saved.told.ema
    if ema != group["ema"]:
        factor = 1 - group["momentum"] if ema else 1 / (1 - group["momentum"])
        group |= {"ema": ema, "eps": group["eps"] * factor}  # ε is added to what is then so much smaller or larger
        states = {i: s | {BUFFER: s[BUFFER] * factor} if s else s for i, s in states.items()}
    return group, states


def _parted(saved: Saved) -> Iterator[tuple[Saved, bool]]:
    """The parameters of a group by what their state says of them, matrices first."""
    flags = {i: saved.states.get(i, {}).get("use_muon") for i in saved.group["params"]}
    if unmarked := [i for i, flag in flags.items() if flag is None]:
        raise ValueError(
            f"{saved.where}: the state of parameter {unmarked[0]!r} lacks 'use_muon'; expected is one class for both rules,"
            " whose states say which of them they are of."
        )
    for is_muon in (True, False):
        if numbers := [i for i, flag in flags.items() if bool(flag) is is_muon]:
            yield saved.only(numbers), is_muon


def _buffers(saved: Saved) -> dict[Any, Tensor]:
    return {i: s[BUFFER] for i, s in saved.states.items() if BUFFER in s}


def _stacked(saved: Saved) -> bool:
    """Whether the tensors are stacks of matrices, which is what three dimensions are there."""
    stacks = {i for i, buffer in _buffers(saved).items() if buffer.ndim == 3}
    if stacks and len(stacks) < len(saved.group["params"]):
        raise ValueError(
            f"{saved.where}: parameters {listing(stacks)} have three dimensions and are stacks of matrices; here they need a"
            " group of their own, with stacked=True."
        )
    return bool(stacks)


def _report_kernels(saved: Saved) -> None:
    """Of convolutions theirs reads the step's scale off the last two dimensions."""
    for i, buffer in _buffers(saved).items():
        if buffer.ndim == 4:
            scale = ADJUST["original"]
            theirs, ours = scale(*buffer.shape[-2:]), scale(len(buffer), buffer[0].numel())
            if theirs != ours:
                warnings.warn(
                    f"{saved.where}: parameter {i!r} of shape {tuple(buffer.shape)} was scaled as its last two dimensions, by"
                    f" {theirs:.3g}; as a matrix of one row an output it is scaled by {ours:.3g}.",
                    stacklevel=2,
                )
