"""The one torch.optim.Optimizer subclass; every public optimizer is a declaration on top of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, ClassVar, Unpack, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core import checkpoint, diagnostics, evaluation, execute, nonfinite
from thalweg.core.allowed import Choice
from thalweg.core.buckets import Plan
from thalweg.core.gradient import clip_kind
from thalweg.core.names import describe, named
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
    evaluates_itself: ClassVar[
        dict[str, Any]
    ] = {}  # hyperparameters whose value makes step() evaluate the closure itself

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

    @classmethod
    def variant_of(cls, group: Group) -> Rule:
        """The rule of a group of this class: the class's, or of its variants the one that the group names."""
        if isinstance(cls.rule, Rule):
            return cls.rule
        Choice(tuple(cls.rule)).check(f"{cls.__name__}: variant", group["variant"])
        return cls.rule[group["variant"]]

    def class_of(self, group: Group) -> type[Optimizer]:
        """The class whose rule a group follows: this one."""
        return type(self)

    def rule_of(self, group: Group) -> Rule:
        """The rule of a group."""
        return self.class_of(group).variant_of(group)

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
        if not isinstance(params := param_group["params"], Tensor | set):  # torch refuses sets, which have no order
            param_group["params"] = list(params)
        group = self.defaults | param_group
        self._check(group)
        if len({id(p) for _, p in named(group["params"])}) < len(named(group["params"])):
            raise ValueError(f"{owner}: a parameter group lists a parameter twice; give each once.")
        self.class_of(group).advise(group)
        super().add_param_group(param_group)
        self._forget()

    @classmethod
    def check_group(cls, group: Group) -> None:
        """Raise for hyperparameters that do not go together, each of which is of its kind."""

    @classmethod
    def advise(cls, group: Group) -> None:
        """Warn of values that are allowed and known to be unsafe."""

    def _check(self, group: Group) -> None:
        cls = self.class_of(group)
        check(cls.__name__, cls.variant_of(group), group)
        cls.check_group(group)

    def _forget(self) -> None:
        """Drop what was made from groups and state as they were."""
        self._plan, self._measured, self._loaded = Plan(), [], list[evaluation.Belongs]()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, with today's defaults for options that the saved groups do not know."""
        super().__setstate__(state)
        self._forget()
        for group in self.param_groups:
            for name, value in (self.class_of(group).option_defaults | self.defaults).items():
                if name != "differentiable":  # which torch puts among the defaults of every optimizer that it restores
                    group.setdefault(name, value)

    def train(self) -> None:
        """Put the weights that steps train into the parameters; where no average is kept, they always are."""
        self._switch(train=True)

    def eval(self) -> None:
        """Put the average of a group with ``average=…`` into its parameters, for evaluation or to save the final model."""
        self._switch(train=False)

    @contextmanager
    def evaluation(self) -> Generator[None]:
        """``with optimizer.evaluation():`` the parameters hold their averages; afterwards, what they held before."""
        switched = [group for group in self.param_groups if group["train_mode"]]
        self.eval()
        try:
            yield
        finally:
            for group in switched:
                evaluation.switch(group, self.state, train=True)

    @torch.no_grad()
    def _switch(self, *, train: bool) -> None:
        self._require_own_weights()
        for group in self.param_groups:
            evaluation.switch(group, self.state, train=train)

    def _require_own_weights(self) -> None:
        """The first time that the weights are used with a state that was loaded."""
        if self._loaded:
            evaluation.require(type(self).__name__, self._loaded)
            self._loaded = []

    @torch.no_grad()
    def state_dict(self) -> dict[str, Any]:
        """torch's state dict, which torch's optimizer of the same rule loads too."""
        packed = super().state_dict()
        pairs = zip(packed["param_groups"], self.param_groups, strict=True)
        groups = [theirs | evaluation.checksums(group, self.state) for theirs, group in pairs]
        return checkpoint.saved(packed | {"param_groups": groups}, self.rule_of)

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
        owner = type(self).__name__
        fitted = checkpoint.fitted(owner, self.rule_of, self._check, self.param_groups, state_dict)
        belonging = list(evaluation.belonging(owner, fitted["param_groups"]))
        waiting = [one for one in belonging if not one.fits(owner)]  # the weights may be loaded after the state
        self.__setstate__(fitted)
        self._loaded = waiting
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
        self._require_training()
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

    def _require_training(self) -> None:
        self._require_own_weights()
        if any(group["average"] is not None and not group["train_mode"] for group in self.param_groups):
            raise RuntimeError(
                f"{type(self).__name__}: step() in evaluation mode, in which the parameters hold their average; call"
                " optimizer.train() first, or evaluate in `with optimizer.evaluation():`.  Nothing was changed."
            )

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
