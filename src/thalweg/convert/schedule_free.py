"""The package ``schedulefree``: its group scalars become numbers of each parameter, its modes ours."""

from __future__ import annotations

from typing import Any

import torch

from thalweg.convert.form import Converted, Form, Saved, chosen, number, rewritten, same
from thalweg.core.evaluation import TRAINED

GROUP = same("lr", "weight_decay", "warmup_steps", "r", "weight_lr_power", "train_mode")
OWN: dict[str, Any] = {"decay": "decoupled", "average": "schedule_free"}
NUMBERS = frozenset(("lr_max", "weight_sum"))
DROPPED = NUMBERS | {
    "k",
    "scheduled_lr",
    "foreach",
    "x",
    "y",
}  # x and y: the reference classes keep all three sequences

ADAMW = Form(
    "AdamWScheduleFree",
    GROUP | same("betas", "eps"),
    same("z", "exp_avg_sq"),
    OWN,
    only={"decay_at_z": (False,)},
    dropped=DROPPED,
)
SGD = Form("SGDScheduleFree", GROUP | same("momentum"), same("z"), OWN, dropped=DROPPED)
REFUSED = {"silent_sgd_phase": "it is of RAdamScheduleFree, whose rectified learning rate no rule here has."}


def of_schedulefree(saved: Saved) -> Converted:
    """A group of AdamWScheduleFree or SGDScheduleFree."""
    yield averaged(saved, chosen(saved, [ADAMW, SGD], REFUSED), count="k")


def averaged(saved: Saved, form: Form, count: str) -> tuple[dict[str, Any], dict[Any, dict[str, Any]]]:
    """A group whose averaging numbers, and the count of its steps, are in the group.

    Raises:
        ValueError: it was saved in evaluation mode, and the weights were not given.
    """
    if missing := [name for name in (count, *sorted(NUMBERS)) if name not in saved.group]:
        raise ValueError(f"{saved.where} ({form.name}) lacks {', '.join(map(repr, missing))}.")
    group, states = rewritten(saved, form)
    beta = group["betas"][0] if "betas" in group else group["momentum"]
    for i, state in states.items():
        state["step"] = number(f"{saved.where}: {count}", saved.group[count])
        state |= {n: number(f"{saved.where}: {n}", saved.group[n], torch.float64) for n in NUMBERS}
        if not group["train_mode"]:
            state[TRAINED] = _trained(saved, i, state["z"], float(beta))
    return group, states


def _trained(saved: Saved, i: Any, z: torch.Tensor, beta: float) -> torch.Tensor:
    """y = βx + (1−β)z, the weights trained on, of a parameter that holds the average x."""
    if (y := saved.states[i].get("y")) is not None:
        return y
    if i not in saved.weights:
        raise ValueError(
            f"{saved.where} was saved in evaluation mode: the model's weights are the average, and those trained on follow"
            " from both. Call optimizer.train() before saving, or give weights=, the model's weights of this checkpoint."
        )
    x = saved.weights[i]
    if x.shape != z.shape:
        raise ValueError(
            f"{saved.where}: weights of parameter {i!r} have shape {tuple(x.shape)}; its z has {tuple(z.shape)}."
        )
    return x.to(z.device, z.dtype).lerp(z, 1 - beta)
