"""The optimizers of the lab and their search spaces: one space each, the same on every task, written before any run.

Learning-rate ranges all span `LR_DECADES`, so no optimizer gets a finer grid than another (Choi et al. 2019,
arXiv:1910.05446, sect. 4). What is tuned depends on the number of trials alone: see `tuned_names`.
"""

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict

import thalweg
from thalweg.lab import own
from thalweg.lab.errors import UserError, check_name
from thalweg.lab.untyped import untyped
from thalweg.registry import OPTIMIZERS

LR_DECADES = 3.5
POINTS_SEED = 22
"""Scrambling seed of the quasi-random points, of a thousand the one that leaves small gaps after 6, 8 and 16 points."""

Value = bool | int | float | str | tuple[float, float]
"""A hyperparameter as it reaches the optimizer's constructor."""


class Frozen(BaseModel):
    """A value object: immutable, and strict about unknown fields when read from disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(Frozen):
    """An interval of a hyperparameter, searched on a logarithmic scale of x, or of 1 − x for averaging factors."""

    low: float
    high: float
    scale: Literal["log", "log of 1-x"] = "log"

    def at(self, unit: float) -> float:
        """Map a number in [0, 1) to the interval."""
        if self.scale == "log":
            return self.low * (self.high / self.low) ** unit
        return 1 - (1 - self.low) * ((1 - self.high) / (1 - self.low)) ** unit


class Schedule(Frozen):
    """The learning rate's factor over a run: a linear warm-up, then a cosine to zero or a constant."""

    shape: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    """Part of the budget spent on the warm-up."""

    def factor(self, progress: float) -> float:
        """Return the factor at a progress in (0, 1), the part of the budget used; see `thalweg.lab.run.progress`."""
        if progress < self.warmup:
            return progress / self.warmup
        if self.shape == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


class Steering(Frozen):
    """What steers the rule of another entry."""

    over: str
    """Name of the entry that is steered: the plain one, which this one is compared with."""
    by: Literal["dcao", "hidlr"]
    options: dict[str, bool | int | float | str] = {}
    """Keywords of `thalweg.DCAO` or `thalweg.HiDLR`."""


class Entry(Frozen):
    """An optimizer as the lab enters it: a registered rule, what is fixed, what is searched, and its schedule."""

    name: str
    rule: str
    """Name for `thalweg.create`."""
    rest: str | None = None
    """For a rule of matrices: that of all other parameters, which `thalweg.route` tells apart."""
    fixed: dict[str, Value] = {}
    space: dict[str, Range]
    """In order of importance: the learning rate, then β₁ or momentum, then ε."""
    schedule: Schedule = Schedule()
    steering: Steering | None = None
    default_lr: float | None = None
    """The learning rate of a user who tunes nothing; None for the constructor's own default. See `default_point`."""

    def keywords(self, point: Mapping[str, float]) -> dict[str, Value]:
        """Return the constructor's keywords at a point; ``beta1`` replaces the first of ``betas``."""
        merged: dict[str, Value] = {**self.fixed, **point}
        if "beta1" in point:
            merged.pop("beta1")
            betas = self.fixed["betas"]
            assert isinstance(betas, tuple)
            merged["betas"] = (point["beta1"], betas[1])
        return merged


def lr(top: float) -> Range:
    """Return the learning-rate range that ends at `top`."""
    return Range(low=top / 10**LR_DECADES, high=top)


MOMENTUM = Range(low=0.8, high=0.99, scale="log of 1-x")
EPS = Range(low=1e-10, high=1e-4)
ADAM_BETAS = (0.9, 0.999)
ADAM_LR = lr(10**-0.5)
FISHER_MOMENTUM = Range(low=0.9, high=0.9999, scale="log of 1-x")
"""Of the rules with Fisher estimates, whose published default is the upper end."""
FISHER_FIXED: dict[str, Value] = {"betas": (0.999, 0.9999), "momentum_beta": 0.9999, "eps": 1e-6, "weight_decay": 0.01}

SGD_LR = 0.1
"""What is usual for SGD (He et al. 2015, arXiv:1512.03385, sect. 3.4); torch's default, 1e-3, is nobody's choice."""

_ENTRIES = [
    Entry(name="sgd", rule="sgd", space={"lr": lr(10)}, default_lr=SGD_LR),
    Entry(
        name="momentum",
        rule="sgd",
        fixed={"momentum": 0.9},
        space={"lr": lr(1), "momentum": MOMENTUM},
        default_lr=SGD_LR,
    ),
    Entry(
        name="nesterov",
        rule="sgd",
        fixed={"momentum": 0.9, "nesterov": True},
        space={"lr": lr(1), "momentum": MOMENTUM},
        default_lr=SGD_LR,
    ),
    Entry(
        name="rmsprop",
        rule="rmsprop",
        fixed={"alpha": 0.99, "eps": 1e-8},
        space={"lr": ADAM_LR, "alpha": Range(low=0.9, high=0.999, scale="log of 1-x"), "eps": EPS},
    ),
    Entry(name="adagrad", rule="adagrad", fixed={"eps": 1e-10}, space={"lr": lr(10**0.5), "eps": EPS}),
    Entry(
        name="adadelta",
        rule="adadelta",
        fixed={"rho": 0.9, "eps": 1e-6},
        space={"lr": lr(100), "rho": Range(low=0.8, high=0.99, scale="log of 1-x"), "eps": Range(low=1e-8, high=1e-3)},
    ),
    Entry(
        name="adam",
        rule="adam",
        fixed={"betas": ADAM_BETAS, "eps": 1e-8},
        space={"lr": ADAM_LR, "beta1": MOMENTUM, "eps": EPS},
    ),
    Entry(
        name="adamw",
        rule="adamw",
        fixed={"betas": ADAM_BETAS, "eps": 1e-8, "weight_decay": 0.01},
        space={"lr": ADAM_LR, "beta1": MOMENTUM, "eps": EPS},
    ),
    Entry(
        name="adamw_clip",
        rule="adamw",
        fixed={"betas": ADAM_BETAS, "eps": 1e-8, "weight_decay": 0.01, "clip": 1.0},
        space={"lr": ADAM_LR, "beta1": MOMENTUM, "eps": EPS},
    ),
    Entry(
        name="nadam",
        rule="nadam",
        fixed={"betas": ADAM_BETAS, "eps": 1e-8},
        space={"lr": ADAM_LR, "beta1": MOMENTUM, "eps": EPS},
    ),
    Entry(
        name="adamw_schedule_free",
        rule="adamw_schedule_free",
        fixed={"betas": ADAM_BETAS, "eps": 1e-8, "weight_decay": 0.01},
        space={"lr": ADAM_LR, "beta1": MOMENTUM, "eps": EPS},
        schedule=Schedule(shape="constant"),
    ),
    Entry(
        name="sgd_schedule_free",
        rule="sgd_schedule_free",
        fixed={"momentum": 0.9},
        space={"lr": lr(100), "momentum": MOMENTUM},
        schedule=Schedule(shape="constant"),
    ),
    Entry(
        name="muon",
        rule="muon",
        rest="adamw",
        fixed={"adjust": "match_rms_adamw", "momentum": 0.95, "weight_decay": 0.01},
        space={"lr": ADAM_LR, "momentum": MOMENTUM},
    ),
    Entry(
        name="mars",
        rule="mars",
        fixed={"betas": (0.95, 0.99), "eps": 1e-8},
        space={"lr": ADAM_LR, "beta1": MOMENTUM, "eps": EPS},
    ),
    Entry(
        name="saveus",
        rule="saveus",
        fixed={"betas": ADAM_BETAS, "eps": 1e-8},
        space={"lr": ADAM_LR, "beta1": MOMENTUM, "eps": EPS},
    ),
    Entry(
        name="exmachina",
        rule="exmachina",
        fixed=FISHER_FIXED,
        space={"lr": ADAM_LR, "momentum_beta": FISHER_MOMENTUM, "eps": EPS},
    ),
    Entry(
        name="dope",
        rule="dope",
        fixed=FISHER_FIXED,
        space={"lr": ADAM_LR, "momentum_beta": FISHER_MOMENTUM, "eps": EPS},
    ),
    Entry(
        name="dope_tuned",
        rule="dope",
        fixed={"preset": "tuned", "momentum_beta": 0.9, "eps": 1e-6},
        space={"lr": ADAM_LR, "momentum_beta": MOMENTUM, "eps": EPS},
    ),
    Entry(
        name="lbfgs",
        rule="lbfgs",
        fixed={"max_iter": 4, "history_size": 10},
        space={"lr": lr(10)},
        schedule=Schedule(shape="constant", warmup=0),
    ),
    Entry(
        name="newton_cg",
        rule="newton_cg",
        fixed={"products": "gauss_newton", "damping": 0.1, "max_iter": 3, "tolerance": 1e-3, "max_halvings": 3},
        space={"lr": lr(10**0.5), "damping": Range(low=1e-3, high=10)},
        schedule=Schedule(shape="constant", warmup=0),
    ),
]

_PLAIN = {entry.name: entry for entry in _ENTRIES}


def steered(name: str, steering: Steering, **changes: float) -> Entry:
    """Return an entry as the one it steers, under its own name: the same rule, space and schedule."""
    return _PLAIN[steering.over].model_copy(update={"name": name, "steering": steering, **changes})


_STEERED = [
    steered("dcao", Steering(over="momentum", by="dcao"), default_lr=1.0),
    steered("dcao_adamw", Steering(over="adamw", by="dcao"), default_lr=0.1),
    steered("dcao_exponential", Steering(over="momentum", by="dcao", options={"policy": "exponential"})),
    steered("cdat", Steering(over="momentum", by="dcao", options={"policy": "cdat", "average": 0.9, "every": 5})),
    steered("hidlr", Steering(over="adamw", by="hidlr")),
]

ENTRIES: dict[str, Entry] = _PLAIN | {entry.name: entry for entry in _STEERED}
"""Every optimizer the lab can enter, by name."""

DEFAULT_OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adamw")


def entry(name: str) -> Entry:
    """Return the entry of a name, or of a user's own file; its optimizer can then be made.

    Raises:
        UserError: there is none, or the file raises or lacks something.
    """
    if own.is_path(name):
        name = own.enter(own.OPTIMIZERS, name, ENTRIES)
    files = own.files(own.OPTIMIZERS)
    return _own(files[name]) if name in files else ENTRIES[check_name("optimizer", name, ENTRIES)]


@cache
def _own(path: Path) -> Entry:
    """Enter the ``OPTIMIZER`` of a file as its ``ENTRY`` says; the rule's name holds the hash of the code."""
    module, code = own.load(path)
    made, rule = getattr(module, "ENTRY", None), f"{path.stem} {code}"
    optimizer = getattr(module, "OPTIMIZER", None)
    if not isinstance(made, Entry):
        raise UserError(f"{path}: its ENTRY is a {type(made).__name__}; it must be a thalweg.lab.space.Entry.")
    if not isinstance(optimizer, type) or not issubclass(optimizer, torch.optim.Optimizer):
        raise UserError(f"{path}: its OPTIMIZER is {optimizer!r}; it must be a class of torch.optim.Optimizer.")
    OPTIMIZERS[rule] = optimizer
    return made.model_copy(update={"name": path.stem, "rule": rule})


def enter_own() -> None:
    """Enter all optimizers of the user's own, in a process that knows their names alone."""
    for name in own.files(own.OPTIMIZERS):
        entry(name)


def default_point(entry: Entry) -> dict[str, float]:
    """Return the point of a user who tunes nothing: one learning rate for all tasks, everything else as it is fixed."""
    if entry.default_lr is not None:
        return {"lr": entry.default_lr}
    made = thalweg.create(entry.rule, [torch.zeros(2, 2, requires_grad=True)], **entry.keywords({}))
    return {"lr": float(made.param_groups[0]["lr"])}


def tuned_names(entry: Entry, trials: int) -> list[str]:
    """Return what a number of trials can afford to tune: lr; from 10 trials β₁ too; from 26 ε too.

    Source: Google's deep learning tuning playbook, on how many quasi-random trials a dimension needs.
    """
    return list(entry.space)[: 1 if trials < 10 else 2 if trials <= 25 else 3]


def points(entry: Entry, trials: int) -> list[dict[str, float]]:
    """Return the trials of an entry: a scrambled Sobol sequence with a fixed seed, non-adaptive, made up front.

    Entries that tune as many hyperparameters get the same points of the unit cube, and fewer trials get the beginning
    of the longer sequence.
    """
    names = tuned_names(entry, trials)
    sobol = (
        untyped("scipy.stats.qmc")
        .Sobol(len(names), scramble=True, rng=POINTS_SEED)
        .random_base2(max(trials - 1, 1).bit_length())
    )
    rows: list[list[float]] = sobol[:trials].tolist()
    return [{name: entry.space[name].at(unit) for name, unit in zip(names, row, strict=True)} for row in rows]
