"""Buckets: the parameters that one pass of the pipeline can treat alike, and the plan that sorts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from zlib import crc32

import torch
from torch import Tensor

from thalweg.core import average, carried, pipeline, strategy
from thalweg.core.gradient import momentum_of
from thalweg.core.names import describe, without_wrappers
from thalweg.core.options import OPTION_NUMBERS, clip_bound
from thalweg.core.pipeline import Pipeline
from thalweg.core.rule import Group, Recurrence, Rule, Scalar, State
from thalweg.core.sharding import first_element, is_sharded, local, placement, spread


@dataclass(eq=False)
class Counter:
    """A number in the state of every member of a bucket: one 0-D tensor, read from memory only if others wrote it."""

    recurrence: Recurrence
    tensor: Tensor
    _value: float = 0.0
    _version: int = -1  # of the tensor's memory when the value was taken

    def read(self, flag: Tensor | None) -> Scalar:
        """The value: a float, or where a ``flag`` guards it, which only the device knows, a 0-D tensor."""
        if flag is not None:
            return self.tensor.double()
        if self._version != self.tensor._version:
            self._value, self._version = self.tensor.item(), self.tensor._version
        return self._value

    def write(self, value: Scalar, flag: Tensor | None) -> None:
        """Take the next value, if the flag is true."""
        if flag is not None:
            self.tensor.copy_(torch.where(flag, value, self.tensor))
        else:
            self.tensor.fill_(value)
            self._value, self._version = float(value), self.tensor._version


@dataclass(eq=False)
class Bucket:
    """Parameters of one group with the same pipeline, device, dtype, placement, kind of layout and history."""

    group: Group
    pipeline: Pipeline
    run: str  # the strategy chosen for it
    reason: str  # and why
    params: list[Tensor]  # as the user holds them
    part: Callable[[Tensor], Tensor] | None  # what the pipeline is given of a DTensor: its part held here, or itself
    local: list[Tensor]  # that part of each parameter
    orders: list[tuple[int, ...]]  # each parameter's dimensions from slow to fast in memory
    lanes: list[int]  # the number of each parameter's first element here, of which stochastic rounding makes its noise
    state: dict[str, list[Tensor]]  # by name, along ``local``
    counters: dict[str, Counter]  # the numbers that all members share: the step count and the rule's own
    calls: list[Any] = field(default_factory=list[Any])  # how ``run`` cuts it up, made at the first step
    numbers: Any = None  # this step's numbers as kernels take them

    def gradients(self) -> list[Tensor]:
        """The gradients, spread over the processes as their parameters are."""
        if self.part is None:
            return [p.grad for p in self.params]  # pyright: ignore[reportReturnType]
        return [spread(p.grad, p) for p in self.params]

    def parts(self, tensors: list[Tensor]) -> list[Tensor]:
        """What the pipeline is given of each."""
        return tensors if self.part is None else list(map(self.part, tensors))

    def read_numbers(self, shared: dict[str, Tensor]) -> dict[str, Any]:
        """This step's numbers by name: floats; a tensor only where it lives on an accelerator, as ``shared`` ones do."""
        names = (n for n in self.pipeline.numbers if n not in self.counters)
        h = {name: _number(self.group[name]) for name in (*names, *OPTION_NUMBERS)}
        h |= {name: _number(value) for name, value in average.numbers(self.group).items()}
        h["mars_beta"] = _number(momentum_of(self.group))
        if self.group["clip"] is not None:
            h["clip"] = clip_bound(self.group["clip"])
        device = self.local[0].device
        return h | {name: x.to(device, non_blocking=True) for name, x in shared.items()}

    def advance(self, h: dict[str, Any]) -> None:
        """Move the counters one step on and put their new values into ``h``.

        They live on the host; guarded by a flag that only the device knows, on the device.
        """
        flag = h["all_finite"] if self.pipeline.guarded else None
        t = 1 + self.counters["step"].read(flag)
        for name, counter in self.counters.items():
            h[name] = counter.recurrence.advance(counter.read(flag), t, **h)
            counter.write(h[name], flag)


class Plan:
    """The buckets of an optimizer's current step, reused until anything they were made from is different."""

    def __init__(self) -> None:
        self.buckets: list[Bucket] = []
        self._key: list[Any] = []

    def refresh(
        self, groups: list[Group], state: dict[Tensor, dict[str, Any]], rule_of: Callable[[Group], Rule]
    ) -> list[Bucket]:
        """The buckets of all parameters that have a gradient.

        Raises:
            TypeError: a sparse or complex gradient or parameter.
            ValueError: a gradient or state of another shape or device than its parameter's.  Nothing has changed then.
        """
        active = [[p for p in group["params"] if p.grad is not None] for group in groups]
        static = [group[name] for group in groups for name in rule_of(group).static]
        if [*static, *self._fingerprint(groups, active, state)] != self._key:
            for i, group in enumerate(groups):
                numbers = carried.counters(rule_of(group), group)
                for j, p in enumerate(group["params"]):
                    if p.grad is not None:
                        kept = {n: s for n, s in state.get(p, {}).items() if n not in numbers}
                        _refuse_unsupported(partial(describe, groups, i, j), p, p.grad, kept)
            self.buckets = list(_sort(groups, active, state, rule_of))
            self._key = [*static, *self._fingerprint(groups, active, state)]
        return self.buckets

    @staticmethod
    def _fingerprint(groups: list[Group], active: list[list[Tensor]], state: dict[Tensor, dict[str, Any]]) -> list[Any]:
        """What the buckets depend on, read on every step: short of the numbers, which may change freely."""
        key: list[Any] = [_form(value) for group in groups for name, value in group.items() if name != "params"]
        for members in active:
            key.append(len(members))
            key += [local(p).data_ptr() for p in members]
            key += [(g.dtype, g.layout) for p in members if (g := p.grad) is not None]
        key += [id(s) for own in state.values() for s in own.values()]
        return key


def _sort(
    groups: list[Group],
    active: list[list[Tensor]],
    state: dict[Tensor, dict[str, Any]],
    rule_of: Callable[[Group], Rule],
) -> Iterator[Bucket]:
    lanes = _lanes(groups)
    for group, members in zip(groups, active, strict=True):
        rule = rule_of(group)
        kinds, recurrences = carried.tensors(rule, group), carried.counters(rule, group)
        sorted_: dict[Any, list[Tensor]] = {}
        for p in members:
            made = pipeline.build(rule, group, p.dtype)
            history = tuple(float(state[p].get(name, r.start)) for name, r in recurrences.items())
            as_whole = is_sharded(p) and made.reach != "element"
            layout = "sharded" if as_whole else strategy.layout(local(p), made.reach)
            sorted_.setdefault((made, p.device, p.dtype, placement(p), layout, history), []).append(p)
        for (made, device, _, where, layout, history), params in sorted_.items():
            part = None if where is None else _itself if layout == "sharded" else local
            parts = params if part is None else list(map(part, params))
            run, reason = strategy.choose(
                group["run"], device.type, sum(p.numel() for p in parts), layout, made.reach, one_pass=made.one_pass
            )
            counters = {
                name: Counter(r, torch.tensor(value, dtype=r.dtype, device=device if made.guarded else "cpu"))
                for (name, r), value in zip(recurrences.items(), history, strict=True)
            }
            for p in params:
                state[p] |= {
                    name: _adopt(kind, state[p].get(name), p, group, made.dtype) for name, kind in kinds.items()
                }
                state[p] |= {name: counter.tensor for name, counter in counters.items()}
            yield Bucket(
                group,
                made,
                run,
                reason,
                params,
                part,
                parts,
                [strategy.memory_order(p) for p in parts],
                [lanes[p] for p in params],
                {name: [s if part is None else part(s) for s in (state[p][name] for p in params)] for name in kinds},
                counters,
            )


def _lanes(groups: list[Group]) -> dict[Tensor, int]:
    """Where each parameter's elements are numbered from: by its name, so that their order may change, or by its place."""
    lanes: dict[Tensor, int] = {}
    place = 0
    for group in groups:
        names = group.get("param_names", [None] * len(group["params"]))
        for p, name in zip(group["params"], names, strict=True):
            start = place if name is None else crc32(without_wrappers(name).encode())
            lanes[p] = start + first_element(p)
            place += p.numel()
    return lanes


def _itself(x: Tensor) -> Tensor:
    return x


def _adopt(kind: State, s: Tensor | None, p: Tensor, group: Group, dtype: torch.dtype) -> Tensor:
    """The state tensor: made new, or the given one in the dtype and memory layout that the pipeline needs."""
    if s is not None and (s.dtype, s.device, s.stride()) == (dtype, p.device, p.stride()):
        return s
    fresh = kind.create(p, group, dtype)
    return fresh if s is None else fresh.copy_(s)


def _refuse_unsupported(name: Callable[[], str], p: Tensor, g: Tensor, kept: dict[str, Tensor]) -> None:
    for what, x in (("gradient", g), ("parameter", p)):
        if x.layout != torch.strided:
            raise TypeError(f"the {what} of {name()} is sparse ({x.layout}); pass it dense: grad.to_dense().")
        if not x.is_floating_point():
            raise TypeError(f"the {what} of {name()} is {x.dtype}; only real floating-point is supported.")
    if g.device != p.device:
        raise ValueError(f"the gradient of {name()} is on {g.device}, the parameter on {p.device}; move it there.")
    for what, x in {"gradient": g, **kept}.items():
        if x.shape != p.shape:
            raise ValueError(
                f"the {what} of {name()} has shape {tuple(x.shape)}, the parameter {tuple(p.shape)}; a parameter that was"
                " given another shape needs a new optimizer."
            )


def _form(value: Any) -> Any:
    """What of a group's entry decides the pipeline: which choice it is, or whether a number is zero."""
    if isinstance(value, tuple | list):
        return tuple(map(_form, cast("tuple[Any, ...]", value)))
    if isinstance(value, Tensor):
        return value.device
    return value if isinstance(value, bool | str | None) else value != 0


def _number(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(_number, cast("tuple[Any, ...]", value)))
    return value.item() if isinstance(value, Tensor) and value.device.type == "cpu" else value
