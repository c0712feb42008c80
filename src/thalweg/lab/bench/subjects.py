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
    twin_is_fused: bool
    options: dict[str, float] = field(default_factory=dict[str, float])


RULES = {
    "sgd": Rule("sgd", torch.optim.SGD, twin_is_fused=True),
    "momentum": Rule("sgd", torch.optim.SGD, twin_is_fused=True, options={"momentum": 0.9}),
    "adagrad": Rule("adagrad", torch.optim.Adagrad, twin_is_fused=True),
    "adadelta": Rule("adadelta", torch.optim.Adadelta, twin_is_fused=False),
    "rmsprop": Rule("rmsprop", torch.optim.RMSprop, twin_is_fused=False),
    "adam": Rule("adam", torch.optim.Adam, twin_is_fused=True),
    "adamw": Rule("adamw", torch.optim.AdamW, twin_is_fused=True),
    "nadam": Rule("nadam", torch.optim.NAdam, twin_is_fused=False),
    # torch has none of these: AdamW is the yardstick.
    "mars": Rule("mars", torch.optim.AdamW, twin_is_fused=True),
    "saveus": Rule("saveus", torch.optim.AdamW, twin_is_fused=True),
    "exmachina": Rule("exmachina", torch.optim.AdamW, twin_is_fused=True),
    "dope": Rule("dope", torch.optim.AdamW, twin_is_fused=True),
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

    def subject(strategy: str) -> Subject:
        options: dict[str, Any] = {**rule.options, strategy: True}
        return Subject("torch", strategy, lambda params: rule.twin(params, lr=LR, **options))

    return [subject(strategy) for strategy in (("fused", "foreach") if rule.twin_is_fused else ("foreach",))]


def peers(rule_name: str) -> list[Subject]:
    """The other libraries' optimizers for a rule, of those installed."""

    def subject(peer: Peer) -> Subject:
        def build(params: list[Tensor]) -> Optimizer:
            return getattr(importlib.import_module(peer.module), peer.cls)(params, lr=LR, **peer.options)

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
