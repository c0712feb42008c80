"""An optimizer whose hyperparameters are decided anew for each step, from what is measured before it."""

from __future__ import annotations

import inspect
import math
import warnings
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.control.decision import Decision, Factor, Policy
from thalweg.control.measured import finite_gradients, gradient_norm, measured, reshard
from thalweg.control.probe import Probe
from thalweg.control.rehearsal import rehearsed
from thalweg.curvature.cost import Cost, CountsCost
from thalweg.curvature.operators import LossFunction

HISTORY = 10_000  # decisions kept: about 10 MB


class Steered(Optimizer):
    """A base optimizer under a policy.

    It shares ``param_groups`` and ``state`` with its base: schedulers, gradient scalers and ``zero_grad`` find what they
    look for.  Register hooks here rather than on the base, which at a measurement also makes a step that is taken back.
    What only the base has, as ``eval()`` of averaging ones, is called on ``optimizer.base``.

    Args:
        base: an optimizer, thalweg's or torch's, that steps from the gradients in ``p.grad``.
        settings: the constants of the policy; a saved state is for these alone.
        policy: what decides.
        model: the network.  FSDP2 needs it: sharded parameters are gathered through their modules.

    Attributes:
        base: the optimizer underneath.
        steps: how many were made.
        history: a ``Decision`` for each of the last 10,000 steps of this run, the newest last.
        used: ``Cost`` of the last step's measurements, without the gradient of the batch.

    Raises:
        TypeError: a base that evaluates the loss itself.
        ValueError: sharded parameters without a model; a model that does not have all parameters.
    """

    def __init__(self, base: Optimizer, settings: object, policy: Policy, model: nn.Module | None = None) -> None:
        if isinstance(base, CountsCost) or needs_closure(base):
            raise TypeError(
                f"{type(self).__name__}: base={type(base).__name__} evaluates the loss itself; take one that steps from the"
                " gradients in p.grad."
            )
        measured(type(self).__name__, base.param_groups, model)
        self.base, self.settings, self.policy, self.model = base, settings, policy, model
        super().__init__(base.param_groups, base.defaults)
        self.history: deque[Decision] = deque(maxlen=HISTORY)
        self.used, self.steps, self.warned = Cost(), 0, False
        self.share()

    def share(self) -> None:
        """Groups, state and defaults are the base's own, which replaces them when a checkpoint is loaded."""
        self.param_groups, self.state, self.defaults = self.base.param_groups, self.base.state, self.base.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the base."""
        if not any(param_group is group for group in self.base.param_groups):
            self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As the base does."""
        self.base.zero_grad(set_to_none)

    @torch.no_grad()
    # The loss function takes the place of torch's closure.
    def step(self, loss_fn: LossFunction | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of the base, from the gradients in ``p.grad``, at the learning rate decided for it.

        With a gradient scaler, ``scaler.step(optimizer, loss_fn)``; a step that it skips is not counted.  A step whose
        measurement fails because the gradients are not finite is not made; between measurements they are the base's affair:
        thalweg's pass over such steps under ``nonfinite="skip"``.

        Args:
            loss_fn: returns the loss that these gradients are of, with its graph, without calling backward and without a
                scaler's factor: the same batch, in the same mode; the mean over the micro-batches where gradients were
                accumulated; each process's own under DistributedDataParallel and FSDP2, through the wrapped model.  Needed
                where a measurement is due; the first step is one.

        Raises:
            TypeError: a measurement is due and there is no loss function, or one that returns no tensor.
            ValueError: one that calls backward, or whose loss is no scalar; whatever else it raises is passed on.  Nothing
                has changed in any of these cases, and the same step can be called again.
        """
        asked = largest(self.param_groups)
        probe = self.probe(loss_fn) if asked and self.steps >= self.policy.next_probe else None
        before = self.policy.state_dict()
        try:
            decision = self.decided(asked, probe)
            if decision.active != NO_STEP:
                with scaled(self.param_groups, decision.factors):
                    self.base.step()
        except BaseException:
            self.policy.load_state_dict(before)
            raise
        self.used = Cost() if probe is None else probe.cost
        self.history.append(decision)
        self.steps += 1
        if decision.note and not self.warned:
            self.warned = True
            warnings.warn(
                f"{type(self).__name__}: measuring before step {decision.step}: {decision.note}.  Further notes are in"
                " optimizer.history alone.",
                stacklevel=4,
            )

    def decided(self, asked: float, probe: Probe | None) -> Decision:
        """The policy's decision; no step where a measurement failed and the gradients are not finite either.

        A base that has a way of its own with such gradients, ``nonfinite=``, is left to it.
        """
        if not asked:
            return Decision(step=self.steps, asked=0.0, used=0.0, active="schedule", factors={})
        try:
            decision = self.policy.decide(self.steps, asked, probe, lambda: gradient_norm(self.param_groups))
        finally:
            if probe is not None and self.model is not None:
                reshard(self.model)
        left_alone = all(group.get("nonfinite", "propagate") == "propagate" for group in self.param_groups)
        if decision.note and left_alone and not finite_gradients(self.param_groups):
            note = f"{decision.note}; the gradients are not finite, and no step is made"
            return replace(decision, used=0.0, ratio=0.0, active=NO_STEP, factors={}, note=note)
        return decision

    @property
    def next_probe(self) -> int:
        """The next step, counted from 0, that measures and needs a loss function; now, if it is not above ``steps``."""
        return max(self.policy.next_probe, self.steps)

    def probe(self, loss_fn: LossFunction | None) -> Probe:
        """The measurements of a step."""
        name = type(self).__name__
        if loss_fn is None or not callable(loss_fn):
            raise TypeError(
                f"{name}: step {self.steps} measures curvature: call step(loss_fn), where loss_fn() returns the loss of this"
                f" batch without backward; it was given {type(loss_fn).__name__}.  Passed at every step, loss_fn is called only"
                " when needed; optimizer.next_probe is the next step that needs it."
            )
        named, groups = measured(name, self.param_groups, self.model)
        rates = [0.0 if i < 0 else float(self.param_groups[i]["lr"]) for i in groups]

        def move(factors: Mapping[str, Factor]) -> list[Tensor]:
            with scaled(self.param_groups, factors):
                return rehearsed(self.base, [p for _, p in named])

        return Probe(named, groups, rates, loss_fn, move, self.model)

    def state_dict(self) -> dict[str, Any]:
        """The base's, and under ``"control"`` what decides the steps to come: numbers.  ``history`` is not in it."""
        control = {"policy": type(self.settings).__name__, "steps": self.steps, "held": self.policy.state_dict()}
        return self.base.state_dict() | {"control": control}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue bit for bit where a run was saved.

        Raises:
            ValueError: a state dict of another policy, or of the base alone; what the base raises.  Nothing has changed then.
        """
        control, mine = state_dict.get("control"), type(self.settings).__name__
        if control is None:
            raise ValueError(
                f"{type(self).__name__}: the state dict has no 'control'; to go on from a run of the base alone, load it into"
                " optimizer.base."
            )
        if control["policy"] != mine:
            raise ValueError(
                f"{type(self).__name__}: the state dict is of policy {control['policy']}; this one's is {mine}."
            )
        before = self.policy.state_dict()
        try:
            self.policy.load_state_dict(control["held"])
            self.base.load_state_dict({n: v for n, v in state_dict.items() if n != "control"})
        except BaseException:
            self.policy.load_state_dict(before)
            raise
        self.share()
        self.steps = control["steps"]

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles."""
        own = ("base", "settings", "policy", "model", "history", "used", "steps", "warned")
        return super().__getstate__() | {name: getattr(self, name) for name in own}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


NO_STEP = "gradients"  # the bound that is active where no step is made


def needs_closure(base: Optimizer) -> bool:
    """Whether its step cannot be called without one."""
    first = next(iter(inspect.signature(base.step).parameters.values()), None)
    return first is not None and first.default is first.empty and first.kind is first.POSITIONAL_OR_KEYWORD


def largest(groups: list[dict[str, Any]]) -> float:
    """The largest learning rate."""
    return max((float(group["lr"]) for group in groups), default=math.nan)


@contextmanager
def scaled(groups: list[dict[str, Any]], factors: Mapping[str, Factor]) -> Generator[None]:
    """Within it, hyperparameters are multiplied by factors, one for all groups or one each; then they are what they were."""
    were = [{name: group[name] for name in factors} for group in groups]
    try:
        for i, group in enumerate(groups):
            own = {name: f[i] if isinstance(f, tuple) else f for name, f in factors.items()}
            group.update({name: group[name] * f for name, f in own.items()})
        yield
    finally:
        for group, values in zip(groups, were, strict=True):
            group.update(values)


@contextmanager
def as_stepped(optimizer: Optimizer) -> Generator[Optimizer]:
    """The optimizer that made the last step, its groups as they were for it: a controller's hold what was asked for.

    Raises:
        ValueError: a controller has decided nothing yet.
    """
    if not isinstance(optimizer, Steered):
        yield optimizer
    elif not optimizer.history:
        raise ValueError("before the first step no learning rate is decided.")
    else:
        with scaled(optimizer.param_groups, optimizer.history[-1].factors):
            yield optimizer.base
