"""One line a public optimizer, and one for each that steers another."""

from __future__ import annotations

import difflib
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from thalweg.control import DCAO, HiDLR, Steered
from thalweg.rules.adadelta import Adadelta
from thalweg.rules.adagrad import Adagrad
from thalweg.rules.adam import Adam, AdamW
from thalweg.rules.dope import DOPE
from thalweg.rules.exmachina import ExMachina
from thalweg.rules.lbfgs import LBFGS
from thalweg.rules.mars import MARS
from thalweg.rules.muon import Muon
from thalweg.rules.nadam import NAdam
from thalweg.rules.newton import NewtonCG
from thalweg.rules.rmsprop import RMSprop
from thalweg.rules.saveus import SAVEUS
from thalweg.rules.schedule_free import AdamWScheduleFree, SGDScheduleFree
from thalweg.rules.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "sgd_schedule_free": SGDScheduleFree,
    "adamw_schedule_free": AdamWScheduleFree,
    "muon": Muon,
    "saveus": SAVEUS,
    "mars": MARS,
    "exmachina": ExMachina,
    "dope": DOPE,
    "lbfgs": LBFGS,
    "newton_cg": NewtonCG,
}

STEERING: dict[str, type[Steered]] = {"dcao": DCAO, "hidlr": HiDLR}
"""Over SGD with momentum if ``create`` makes them; over any optimizer by ``base=``."""


def list_optimizers() -> list[str]:
    """The names ``create`` takes, in the order of the registry."""
    return [*OPTIMIZERS, *STEERING]


def create(name: str, params: ParamsT, **kwargs: Any) -> Optimizer:
    """An optimizer by name: ``create("adamw", model.parameters(), lr=3e-4)``.

    Raises:
        ValueError: an unknown name; the message suggests the nearest.
    """
    known: dict[str, type[Optimizer]] = {**OPTIMIZERS, **STEERING}
    if name not in known:
        near = difflib.get_close_matches(str(name).lower(), known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown optimizer {name!r}. {hint}Known are {', '.join(known)}.")
    return known[name](params, **kwargs)
