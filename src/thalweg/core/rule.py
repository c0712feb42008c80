"""What a rule is: a pure function for the update, and the declaration of its state, hyperparameters and reach."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from thalweg.core import sharding
from thalweg.core.allowed import Allowed
from thalweg.core.sharding import Reach
from thalweg.core.tensorlist import TensorList

Scalar: TypeAlias = float | Tensor
"""A number, or a 0-D tensor where a compiled kernel or a device-side step count needs one."""

Group: TypeAlias = dict[str, Any]
"""One entry of ``optimizer.param_groups``."""


@dataclass(frozen=True)
class State:
    """A tensor shaped like its parameter, kept from step to step in float32 or wider."""

    fill: float | str | None = (
        0.0  # the first value: a number, the hyperparameter that holds it, or None: the parameter
    )
    needs: tuple[str, ...] = ()  # the hyperparameters of which one must be truthy for this state to exist

    def when(self, *hyperparameters: str) -> State:
        """The same state, kept only while one of ``hyperparameters`` is truthy; the rule sees None otherwise."""
        return replace(self, needs=hyperparameters)

    def exists(self, group: Group) -> bool:
        """Whether parameters of this group have it."""
        return not self.needs or any(isinstance(x := group[n], Tensor) or bool(x) for n in self.needs)

    def create(self, p: Tensor, group: Group, dtype: torch.dtype) -> Tensor:
        """A new tensor with the shape, strides and device of ``p``."""
        new = torch.empty_like(p, dtype=dtype, requires_grad=False, memory_format=torch.preserve_format)
        return (
            new.copy_(p)
            if self.fill is None
            else new.fill_(group[self.fill] if isinstance(self.fill, str) else self.fill)
        )


zeros = State()
as_parameter = State(fill=None)


@dataclass(frozen=True)
class Recurrence:
    """A number every parameter carries from step to step, the same for all its elements, such as the step count."""

    start: float
    advance: Callable[..., Scalar]  # (value, t, **hyperparameters) -> next value
    dtype: torch.dtype = torch.float64
    absent: float | None = None  # what a state dict without it means; None: that it is not this rule's


def _count(step: Scalar, t: Scalar, **_: Any) -> Scalar:
    return step + 1


COUNT = Recurrence(0.0, _count, dtype=torch.float32)  # float32 as torch keeps it


def tensors_of(state: Mapping[str, State | Recurrence]) -> dict[str, State]:
    """Of what a rule or a station keeps, the tensors."""
    return {name: kind for name, kind in state.items() if isinstance(kind, State)}


def recurrences_of(state: Mapping[str, State | Recurrence]) -> dict[str, Recurrence]:
    """Of what a rule or a station keeps, the numbers."""
    return {name: kind for name, kind in state.items() if isinstance(kind, Recurrence)}


@dataclass(frozen=True, eq=False)
class Rule:
    """An update rule: ``u = rule(g, p, t, **state, **hyperparameters)``; the parameter then moves by −lr·u.

    A keyword named as an option makes that option the rule's own: its station is left out.
    """

    update: Callable[..., Any]
    state: Mapping[str, State | Recurrence]
    allowed: Mapping[str, Allowed]  # the values of each hyperparameter
    reach: Reach
    preconditions: bool = False  # returns its preconditioner too, for the decay station: a pair (u, q)
    denominator: Callable[..., Any] | None = None  # P, if the update is P⁻¹ times a linear filter of the gradient
    static: tuple[str, ...] = ()  # numbers that choose a form: compiled in, and compiled again when they change
    takes_lists: bool = False  # though it looks beyond elements: it works on the members of a list together

    def __call__(self, g: Any, p: Any, t: Scalar, **kwargs: Any) -> Any:
        """The update of a tensor, of every member of a TensorList, or of a sharded parameter."""
        if self.reach != "element" and not self.takes_lists and isinstance(g, TensorList):
            return g.map(self.update, p, t, **kwargs)
        return sharding.apply(self.reach, self.update, g, p, t, **kwargs)

    @property
    def metric(self) -> tuple[str, ...]:
        """The states that the rule's P is made of."""
        return tuple(n for n in keywords(self.denominator or identity) if n in self.state)

    def preconditioner(self, t: Scalar, state: Mapping[str, Any], group: Group) -> Any:
        """P after step t: a tensor shaped like the parameter, or a number for all of it."""
        if self.denominator is None:
            raise TypeError(f"{self} has no preconditioner that could be read from its state.")
        values = dict.fromkeys(self.tensors) | group | dict(state)
        return self.denominator(t, **{n: values[n] for n in keywords(self.denominator) if n in values})

    @property
    def tensors(self) -> dict[str, State]:
        """The states shaped like the parameter."""
        return tensors_of(self.state)

    @property
    def counters(self) -> dict[str, Recurrence]:
        """The step count, and whatever other numbers the rule carries."""
        return {"step": COUNT} | recurrences_of(self.state)

    def switches(self, group: Group) -> tuple[tuple[str, Any], ...]:
        """What chooses the form of the update: booleans, strings, None, ``static`` numbers, and the states there are not."""
        fixed = (n for n in self.hyperparameters if n in self.static or isinstance(group[n], bool | str | None))
        absent = (n for n, s in self.tensors.items() if not s.exists(group))
        return (*((n, group[n]) for n in fixed), *((n, None) for n in absent))

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The keywords of the function that are not state."""
        return tuple(n for n in keywords(self.update) if n not in self.state)

    def __repr__(self) -> str:
        return f"<rule {self.update.__name__}>"


def keywords(function: Callable[..., Any]) -> list[str]:
    """The names of what a function takes by keyword alone."""
    return [n for n, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]


def identity(t: Scalar) -> Scalar:
    """P = 1: the rule moves along the filtered gradient itself."""
    return 1.0


def rule(
    *,
    reach: Reach = "element",
    preconditions: bool = False,
    denominator: Callable[..., Any] | None = None,
    static: tuple[str, ...] = (),
    takes_lists: bool = False,
    allowed: Mapping[str, Allowed] | None = None,
    **state: State | Recurrence,
) -> Callable[[Callable[..., Any]], Rule]:
    """Declare a rule: ``@rule(exp_avg=zeros, allowed={"eps": nonnegative})`` above the function that is its equation.

    The function takes ``g`` (gradient), ``p`` (parameter), ``t`` (step, from 1), then its state and its
    hyperparameters by keyword.  It may update state in place, must leave ``g`` and ``p`` alone, and returns the update.
    ``denominator`` takes ``t``, and by keyword what it needs of state and hyperparameters; the update divides by it.
    """
    return lambda update: Rule(update, state, allowed or {}, reach, preconditions, denominator, static, takes_lists)
