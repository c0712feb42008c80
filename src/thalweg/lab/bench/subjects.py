"""Who is timed: one line of data for every rule, and one for every peer that implements it."""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

LR = 1e-3
STRATEGIES = ("each", "foreach", "compiled")


@dataclass(frozen=True)
class Rule:
    """An update rule: its name and options in `thalweg.create`, and its twin: torch's class, or AdamW where torch has none."""

    create: str
    twin: Callable[..., Optimizer]
    forms: tuple[str, ...]
    """How the twin can be run, by its keyword; empty for one that leaves no choice."""
    options: dict[str, float] = field(default_factory=dict[str, float])
    dims: int = 0
    """The fewest dimensions of the tensors that it takes; it is timed on those."""


FUSED, FOREACH = ("fused", "foreach"), ("foreach",)


RULES = {
    "sgd": Rule("sgd", torch.optim.SGD, FUSED),
    "momentum": Rule("sgd", torch.optim.SGD, FUSED, options={"momentum": 0.9}),
    "adagrad": Rule("adagrad", torch.optim.Adagrad, FUSED),
    "adadelta": Rule("adadelta", torch.optim.Adadelta, FOREACH),
    "rmsprop": Rule("rmsprop", torch.optim.RMSprop, FOREACH),
    "adam": Rule("adam", torch.optim.Adam, FUSED),
    "adamw": Rule("adamw", torch.optim.AdamW, FUSED),
    "nadam": Rule("nadam", torch.optim.NAdam, FOREACH),
    "muon": Rule("muon", torch.optim.Muon, ("",), dims=2),
    # torch has none of these: AdamW is the yardstick.
    "adamw_schedule_free": Rule("adamw_schedule_free", torch.optim.AdamW, FUSED),
    "mars": Rule("mars", torch.optim.AdamW, FUSED),
    "saveus": Rule("saveus", torch.optim.AdamW, FUSED),
    "exmachina": Rule("exmachina", torch.optim.AdamW, FUSED),
    "dope": Rule("dope", torch.optim.AdamW, FUSED),
}


@dataclass(frozen=True)
class Peer:
    """Another library's optimizer with the same equation: distribution, module, class and its own spelling."""

    rule: str
    distribution: str
    module: str
    cls: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])


# HeavyBall frees the gradients in its step unless told otherwise. Its RMSprop is schedule-free, so it is no peer here.
PEERS = (
    Peer("sgd", "heavyball", "heavyball", "SGD", {"beta": 0.0, "consume_grad": False}),
    Peer("momentum", "heavyball", "heavyball", "SGD", {"beta": 0.9, "consume_grad": False}),
    Peer("adamw", "heavyball", "heavyball", "AdamW", {"weight_decay": 1e-2, "consume_grad": False}),
    Peer("nadam", "heavyball", "heavyball", "NAdam", {"consume_grad": False}),
    Peer("adamw_schedule_free", "heavyball", "heavyball", "SFAdamW", {"consume_grad": False}),
    Peer("adamw_schedule_free", "schedulefree", "schedulefree", "AdamWScheduleFree"),
    Peer("muon", "heavyball", "heavyball", "Muon", {"consume_grad": False}),
    Peer("sgd", "torch-optimi", "optimi", "SGD"),
    Peer("momentum", "torch-optimi", "optimi", "SGD", {"momentum": 0.9}),
    Peer("adam", "torch-optimi", "optimi", "Adam"),
    Peer("adamw", "torch-optimi", "optimi", "AdamW"),
    Peer("mars", "pytorch_optimizer", "pytorch_optimizer", "MARS"),
    Peer("sgd", "pytorch_optimizer", "pytorch_optimizer", "SGDW"),
    Peer("momentum", "pytorch_optimizer", "pytorch_optimizer", "SGDW", {"momentum": 0.9}),
)


@dataclass(frozen=True)
class Subject:
    """One optimizer under test: a label and how to build it over given tensors."""

    library: str
    strategy: str
    build: Callable[[list[Tensor]], Optimizer]

    @property
    def label(self) -> str:
        """`thalweg compiled`, `torch fused`, `optimi`: unique among the subjects of one rule."""
        return f"{self.library} {self.strategy}".strip()


def ours(rule: Rule, strategy: str) -> Subject:
    """This library's optimizer for a rule under one strategy."""

    def build(params: list[Tensor]) -> Optimizer:
        # Imported late: torch's own optimizers can be timed without the rest of the package.
        import thalweg

        return thalweg.create(rule.create, params, lr=LR, run=strategy, **rule.options)

    return Subject("thalweg", strategy, build)


def twins(rule: Rule) -> list[Subject]:
    """torch's optimizer for a rule: fused where torch has it, and foreach."""

    def subject(form: str) -> Subject:
        options: dict[str, Any] = rule.options | ({form: True} if form else {})
        return Subject("torch", form, lambda params: rule.twin(params, lr=LR, **options))

    return [subject(form) for form in rule.forms]


def peers(rule_name: str) -> list[Subject]:
    """The other libraries' optimizers for a rule, of those installed."""

    def subject(peer: Peer) -> Subject:
        def build(params: list[Tensor]) -> Optimizer:
            optimizer = getattr(importlib.import_module(peer.module), peer.cls)(params, lr=LR, **peer.options)
            if hasattr(optimizer, "train"):  # those of averages begin in evaluation mode
                optimizer.train()
            return optimizer

        return Subject(peer.module, "", build)

    return [subject(p) for p in PEERS if p.rule == rule_name and importlib.util.find_spec(p.module)]


def versions() -> dict[str, str]:
    """The installed version of every library that can appear in a table."""
    found: dict[str, str] = {}
    for name in ("thalweg", "torch", *dict.fromkeys(p.distribution for p in PEERS)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
