"""The package ``pytorch_optimizer``: those of its classes that take the steps of a rule of ours."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from thalweg.convert import muons, schedule_free
from thalweg.convert.form import Converted, Form, Saved, decay, listing, rewritten, same, stepped

NEVER: tuple[bool | None, ...] = (False, None)
COUPLED = {"weight_decouple": "decay"}
RUN = frozenset(("step", "foreach"))  # the step count is the group's; ours is each parameter's

SGDW = Form(
    "SGDW",
    same("lr", "momentum", "dampening", "weight_decay", "nesterov") | COUPLED,
    same("momentum_buffer"),
    {"ema": False},
    values={"decay": decay},
    dropped=RUN,
)
ADADELTA = Form(
    "AdaDelta",
    same("lr", "rho", "eps", "weight_decay") | COUPLED,
    same("square_avg", "acc_delta"),
    values={"decay": decay},
    only={"fixed_decay": NEVER},
    dropped=RUN,
)
MARS = Form(
    "MARS",
    same("lr", "betas", "eps", "weight_decay", "gamma", "optimize_1d", "lr_1d", "lr_1d_factor", "betas_1d")
    | COUPLED
    | {"mars_type": "variant"},
    same("exp_avg", "exp_avg_sq") | {"last_grad": "previous_grad"},
    {"exact": False},
    values={"decay": decay},
    only={
        "mars_type": ("adamw", "lion"),
        "weight_decouple": (True,),
        "fixed_decay": NEVER,
        "ams_bound": NEVER,
        "cautious": NEVER,
    },
    dropped=RUN | {"weight_decay_1d"},
)
ADAMW_FREE = replace(
    schedule_free.ADAMW,
    name="ScheduleFreeAdamW",
    only={"decoupling_c": (0,), "ams_bound": NEVER, "use_palm": NEVER},
    dropped=schedule_free.DROPPED | RUN,
)
SGD_FREE = replace(schedule_free.SGD, name="ScheduleFreeSGD", dropped=schedule_free.DROPPED | RUN | {"eps"})
MUON = Form(
    "Muon, use_muon=True",
    same("lr", "momentum", "weight_decay", "nesterov", "ns_steps") | COUPLED | {"use_adjusted_lr": "adjust"},
    same("momentum_buffer"),
    {n: muons.MUON[n] for n in ("coefficients", "eps", "ema")} | {"optimizer": "muon"},
    values={"decay": decay, "adjust": lambda adjusted: "match_rms_adamw" if adjusted else "original"},
    only={"ns_coeffs": ([muons.QUINTIC], [list(muons.QUINTIC)]), "cautious": NEVER},
    dropped=RUN | {"use_muon", "ns_method", "ns_reset_steps"},
)
ADAM = Form(
    "Muon, use_muon=False",
    same("lr", "betas", "eps", "weight_decay") | COUPLED,
    same("exp_avg", "exp_avg_sq"),
    {"optimizer": "adamw", "amsgrad": False},
    values={"decay": decay},
    dropped=RUN | {"use_muon"},
)


def _plain(form: Form) -> Callable[[Saved], Converted]:
    def read(saved: Saved) -> Converted:
        yield _counted(saved, rewritten(saved, form))

    return read


def _averaged(form: Form) -> Callable[[Saved], Converted]:
    def read(saved: Saved) -> Converted:
        yield schedule_free.averaged(saved, form, count="step")

    return read


def _mars(saved: Saved) -> Converted:
    """Vectors decay by numbers of their own: where that makes a difference they become a group, after the matrices."""
    group, ((own, states),) = saved.group, _plain(MARS)(saved)
    of_vectors = group.get("weight_decay_1d", 0.0) * own["lr_1d_factor"]  # theirs shrinks them by their own step size
    if own["optimize_1d"] or of_vectors == own["weight_decay"]:
        yield own, states
        return
    dimensions = {i: s["exp_avg"].ndim for i, s in states.items() if s}
    if unknown := [i for i in group["params"] if i not in dimensions]:
        raise ValueError(
            f"{saved.where} (MARS): vectors and matrices decay differently, and parameters {listing(unknown)} have no state"
            " to tell which they are."
        )
    for vectors, strength in ((False, own["weight_decay"]), (True, of_vectors)):
        if numbers := [i for i, n in dimensions.items() if (n < 2) is vectors]:
            ((part, states),) = _plain(MARS)(saved.only(numbers))
            yield part | {"weight_decay": strength}, states


def _muon(saved: Saved) -> Converted:
    yield _counted(saved, muons.muon(saved, MUON) if saved.group.get("use_muon") else rewritten(saved, ADAM))


def _counted(saved: Saved, converted: tuple[dict[str, Any], Any]) -> tuple[dict[str, Any], Any]:
    group, states = converted
    if states and "step" not in saved.group:
        raise ValueError(f"{saved.where} lacks 'step'; the groups of pytorch_optimizer count their steps.")
    return group, stepped(states, saved.group.get("step"), f"{saved.where}: step")


CLASSES: dict[str, Callable[[Saved], Converted]] = {
    "SGDW": _plain(SGDW),
    "AdaDelta": _plain(ADADELTA),
    "MARS": _mars,
    "ScheduleFreeSGD": _averaged(SGD_FREE),
    "ScheduleFreeAdamW": _averaged(ADAMW_FREE),
    "Muon": _muon,
}


def of_pytorch_optimizer(saved: Saved) -> Converted:
    """A group of the class that ``optimizer`` names: its state dicts do not say what they are of."""
    name = saved.told.optimizer
    if name not in CLASSES:
        near = difflib.get_close_matches(str(name), CLASSES, n=1, cutoff=0.8)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"convert: optimizer={name!r} of pytorch_optimizer has no rule here; covered are {listing(CLASSES)}.{hint}"
            " What it takes from torch.optim is source='torch'."
        )
    return CLASSES[name](saved)
