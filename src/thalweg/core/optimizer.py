"""The one torch.optim.Optimizer subclass; every public optimizer is a declaration on top of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, Unpack, cast, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core import checkpoint, diagnostics, execute, nonfinite
from thalweg.core.allowed import Choice
from thalweg.core.buckets import Plan
from thalweg.core.gradient import clip_kind
from thalweg.core.names import describe
from thalweg.core.options import DEFAULTS, Options, check, refuse_unknown
from thalweg.core.rule import Group, Rule


class Optimizer(torch.optim.Optimizer):
    """A rule with the shared options, as a torch optimizer.

    A subclass names its rule, or a table of them for its ``variant``, and any option whose default differs:
    ``class AdamW(Optimizer, rule=adam, decay="decoupled")``; its ``__init__`` lists its hyperparameters and passes them on.
    See ``Options`` for the keywords that all share.
    """

    rule: ClassVar[Rule | Mapping[str, Rule]]
    option_defaults: ClassVar[dict[str, Any]] = DEFAULTS
    aliases: ClassVar[
        dict[str, str]
    ] = {}  # names that arguments have in a rule's source, and what they are called here

    def __init_subclass__(
        cls, *, rule: Rule | Mapping[str, Rule] | None = None, **option_defaults: Unpack[Options]
    ) -> None:
        super().__init_subclass__()
        if rule is not None:
            cls.rule = rule
        cls.option_defaults = cls.option_defaults | option_defaults

    def __init__(self, params: ParamsT, hyperparameters: dict[str, Any], options: Options) -> None:
        refuse_unknown(type(self).__name__, options, [*hyperparameters, *self.option_defaults])
        super().__init__(params, hyperparameters | self.option_defaults | options)

    def rule_of(self, group: Group) -> Rule:
        """The rule of a group: the class's, or of its variants the one that the group names."""
        if isinstance(self.rule, Rule):
            return self.rule
        Choice(tuple(self.rule)).check(f"{type(self).__name__}: variant", group["variant"])
        return self.rule[group["variant"]]

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with hyperparameters of their own; nothing is added if any of them is not allowed."""
        owner = type(self).__name__
        for name in self.aliases.keys() & param_group.keys():
            if not isinstance(param_group[name], tuple | list):  # a pair for clip is the option
                param_group[self.aliases[name]] = param_group.pop(name)
        misspelt = [
            n for n in param_group if n not in self.defaults and get_close_matches(n, self.defaults, cutoff=0.8)
        ]
        refuse_unknown(owner, misspelt, self.defaults)  # any other name is the user's own, as torch allows
        group = self.defaults | param_group
        self._check(group)
        self.advise(group)
        if not isinstance(params := param_group["params"], Tensor | set):  # torch refuses sets, which have no order
            param_group["params"] = listed = list(params)
            if len(set(map(id, _tensors(listed)))) < len(listed):
                raise ValueError(f"{owner}: a parameter group lists a parameter twice; give each once.")
        super().add_param_group(param_group)
        self._plan, self._measured = Plan(), []

    def check_group(self, group: Group) -> None:
        """Raise for hyperparameters that do not go together, each of which is of its kind."""

    def advise(self, group: Group) -> None:
        """Warn of values that are allowed and known to be unsafe."""

    def _check(self, group: Group) -> None:
        check(type(self).__name__, self.rule_of(group), group)
        self.check_group(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, with today's defaults for options that the saved groups do not know."""
        super().__setstate__(state)
        self._plan, self._measured = Plan(), []
        for group in self.param_groups:
            for name, value in self.defaults.items():
                if name != "differentiable":  # which torch puts among the defaults of every optimizer that it restores
                    group.setdefault(name, value)

    def state_dict(self) -> dict[str, Any]:
        """torch's state dict, which torch's optimizer of the same rule loads too."""
        return checkpoint.saved(super().state_dict(), self.rule_of)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where a run of the same rule was saved, by this class or by torch's: bit for bit, if it was this one.

        Parameters are matched by name if both sides have names (``AdamW(model.named_parameters())``), else by order; names
        may differ by what DDP, ``torch.compile`` and FSDP put before them.  As in torch, the saved hyperparameters replace
        those the optimizer was made with; what was not saved keeps its value.  State keeps its dtype: float32 for
        bfloat16 parameters.  It is copied.

        Raises:
            TypeError, ValueError: the state dict does not fit; the message names what.  Nothing has changed then.
        """
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict  # pyright: ignore[reportArgumentType]
        self.__setstate__(
            checkpoint.fitted(type(self).__name__, self.rule_of, self._check, self.param_groups, state_dict)
        )
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step from the gradients in ``p.grad``; parameters without one are left alone.

        Args:
            closure: clears the gradients, evaluates the model, calls backward and returns the loss, which step() returns.

        Raises:
            TypeError: a sparse or complex gradient.
            FloatingPointError: a NaN or infinite gradient under ``nonfinite="raise"``.  Nothing has changed in either case.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._raise_nonfinite()
        watched = diagnostics.watch(self.param_groups) if any(g["diagnostics"] for g in self.param_groups) else ()
        buckets = self._plan.refresh(self.param_groups, self.state, self.rule_of)
        if not buckets:
            return loss

        gradients = [bucket.gradients() for bucket in buckets]
        every = [g for grads in gradients for g in grads]
        shared: dict[str, Tensor] = {}
        if any(clip_kind(group["clip"]) == "global_norm" for group in self.param_groups):
            shared["grad_norm"] = nonfinite.global_norm(every)
        if any(group["nonfinite"] == "skip" for group in self.param_groups):
            shared["all_finite"] = nonfinite.all_finite(every)
        for bucket, grads in zip(buckets, gradients, strict=True):
            h = bucket.read_numbers(shared)
            bucket.advance(h)
            execute.run(bucket, bucket.parts(grads), h)
        # Kernels write through memory that autograd does not know as the parameter's.
        torch.autograd.graph.increment_version([p for bucket in buckets for p in bucket.params])
        self._measured = [None if w is None else diagnostics.measure(w) for w in watched]
        return loss

    def diagnostics(self) -> list[dict[str, float]]:
        """What the last step did, for each group that has ``diagnostics=True``; an empty dict for any other.

        ``lr``; ``update_rms``, the root mean square of the change Δp; ``update_to_weight``, ‖Δp‖/‖p‖; ``effective_lr``,
        ‖Δp‖/‖g‖, at which plain gradient descent would have moved as far; ``cosine`` of −Δp and g, 1 in steepest descent;
        ``masked``, the part of the elements that did not move down their gradient: held still by ``cautious``, or what it
        would hold still; ``preconditioner_low`` and ``_high``, the 1 % and 99 % quantiles of |Δp|/(lr·|g|).  Δp is read off
        the parameters: weight decay and rounding are in it.  Reading waits for the device; measuring does not.

        Raises:
            RuntimeError: no group asked for it, or none has made a step.
        """
        if not any(self._measured):
            raise RuntimeError(
                f"{type(self).__name__}: nothing was measured; that takes diagnostics=True, as an argument or in a group, and"
                " a step."
            )
        return diagnostics.read(self._measured, self.param_groups)

    def _raise_nonfinite(self) -> None:
        """Name the first parameter with a NaN or infinite gradient in a group that asked for it."""
        for i, group in enumerate(self.param_groups):
            if group["nonfinite"] != "raise":
                continue
            given = [(j, p.grad) for j, p in enumerate(group["params"]) if nonfinite.is_checkable(p.grad)]
            if not given or nonfinite.all_finite([g for _, g in given]):
                continue
            j, g = next((j, g) for j, g in given if not nonfinite.all_finite([g]))
            raise FloatingPointError(
                f"{type(self).__name__}: the gradient of {describe(self.param_groups, i, j)}, shape {tuple(g.shape)}, is not"
                ' finite; nothing was changed.  nonfinite="skip" passes over such steps.'
            )

    def __repr__(self) -> str:
        """torch's, and how each bucket of the last step was executed."""
        lines = [
            f'run="{b.run}" for {sum(p.numel() for p in b.local):,} {b.local[0].dtype} elements on'
            f" {b.local[0].device}: {b.reason}"
            for b in self._plan.buckets
        ]
        return "\n".join([super().__repr__(), *(lines or ["run: decided at the first step"])])


def _tensors(params: list[Any]) -> list[Tensor]:
    """The parameters of a list that may give their names."""
    return [cast("tuple[str, Tensor]", p)[1] if isinstance(p, tuple) else p for p in params]
