"""Buckets: the parameters that one pass of the pipeline can treat alike, and the plan that sorts them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from thalweg.core import pipeline, strategy
from thalweg.core.options import OPTION_NUMBERS, clip_bound
from thalweg.core.pipeline import Pipeline
from thalweg.core.rule import Group, Reach, Rule, State
from thalweg.core.sharding import is_sharded, local, placement


@dataclass(eq=False)
class Bucket:
    """Parameters of one group with the same pipeline, device, dtype, placement, kind of layout and history."""

    group: Group
    pipeline: Pipeline
    run: str  # the strategy chosen for it
    reason: str  # and why
    params: list[Tensor]  # as the user holds them
    local: list[Tensor]  # the parts of them that this process holds: themselves, unless they are sharded
    orders: list[tuple[int, ...]]  # each parameter's dimensions from slow to fast in memory
    lanes: list[int]  # the number of each parameter's first element within the optimizer
    state: dict[str, list[Tensor]]  # by name, along ``local``
    counters: dict[str, Tensor]  # the 0-D tensors that all members share: the step count and the rule's own
    calls: list[Any] = field(default_factory=list[Any])  # how ``run`` cuts it up, made at the first step
    numbers: Any = None  # this step's numbers as kernels take them

    def read_numbers(self, shared: dict[str, Tensor]) -> dict[str, Any]:
        """This step's numbers by name: floats; a tensor only where it lives on an accelerator, as ``shared`` ones do."""
        names = (n for n in self.pipeline.numbers if n not in self.counters)
        h = {name: _number(self.group[name]) for name in (*names, *OPTION_NUMBERS)}
        if self.group["clip"] is not None:
            h["clip"] = clip_bound(self.group["clip"])
        device = self.local[0].device
        return h | {name: x.to(device, non_blocking=True) for name, x in shared.items()}

    def advance(self, h: dict[str, Any]) -> None:
        """Move the counters one step on and put their new values into ``h``.

        They are read and written on the host; guarded by a flag that only the device knows, they live on the device.
        """
        flag = h["all_finite"] if self.pipeline.guarded else None
        t = 1 + (self.counters["step"].item() if flag is None else self.counters["step"].double())
        for name, recurrence in self.pipeline.rule.counters.items():
            counter = self.counters[name]
            if flag is None:
                h[name] = recurrence.advance(counter.item(), t, **h)
                counter.fill_(h[name])
            else:
                h[name] = recurrence.advance(counter.double(), t, **h)
                counter.copy_(torch.where(flag, h[name], counter))


class Plan:
    """The buckets of an optimizer's current step, reused until anything they were made from is different."""

    def __init__(self) -> None:
        self.buckets: list[Bucket] = []
        self._key: list[Any] = []

    def refresh(self, groups: list[Group], state: dict[Tensor, dict[str, Any]], rule: Rule) -> list[Bucket]:
        """The buckets of all parameters that have a gradient.

        Raises:
            TypeError: a sparse or complex gradient or parameter.  Nothing has changed then.
        """
        active = [[p for p in group["params"] if p.grad is not None] for group in groups]
        if self._fingerprint(groups, active, state) != self._key:
            for group, members in zip(groups, active, strict=True):
                for p in members:
                    _refuse_unsupported(p, p.grad, pipeline.build(rule, group, p.dtype).reach)
            self.buckets = list(_sort(groups, active, state, rule))
            self._key = self._fingerprint(groups, active, state)
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
    groups: list[Group], active: list[list[Tensor]], state: dict[Tensor, dict[str, Any]], rule: Rule
) -> Iterator[Bucket]:
    every = [p for group in groups for p in group["params"]]
    lanes = dict(zip(every, accumulate((p.numel() for p in every), initial=0), strict=False))
    for group, members in zip(groups, active, strict=True):
        sorted_: dict[Any, list[Tensor]] = {}
        for p in members:
            made = pipeline.build(rule, group, p.dtype)
            history = tuple(_count(state[p], name, r.start) for name, r in rule.counters.items())
            layout = strategy.layout(local(p), made.reach)
            sorted_.setdefault((made, p.device, p.dtype, placement(p), layout, history), []).append(p)
        for (made, device, _, _, layout, history), params in sorted_.items():
            parts = [local(p) for p in params]
            run, reason = strategy.choose(
                group["run"], device.type, sum(p.numel() for p in parts), layout, one_pass=made.one_pass
            )
            names = [name for name, s in rule.tensors.items() if not s.needs or group[s.needs]]
            counters = {
                name: torch.tensor(value, dtype=r.dtype, device=device if made.guarded else "cpu")
                for (name, r), value in zip(rule.counters.items(), history, strict=True)
            }
            for p in params:
                state[p] |= {
                    name: _adopt(rule.tensors[name], state[p].get(name), p, group, made.dtype) for name in names
                }
                state[p] |= counters
            yield Bucket(
                group,
                made,
                run,
                reason,
                params,
                parts,
                [strategy.memory_order(p) for p in parts],
                [lanes[p] for p in params],
                {name: [local(state[p][name]) for p in params] for name in names},
                counters,
            )


def _count(own: dict[str, Any], name: str, start: float) -> float:
    """A counter's value.  State without a step count, as torch's SGD keeps it, is past its first step: all that matters."""
    if name in own:
        return float(own[name])
    return max(start, 1.0) if own and name == "step" else start


def _adopt(kind: State, s: Tensor | None, p: Tensor, group: Group, dtype: torch.dtype) -> Tensor:
    """The state tensor: made new, or the given one in the dtype and memory layout that the pipeline needs."""
    if s is not None and (s.dtype, s.device, s.stride()) == (dtype, p.device, p.stride()):
        return s
    fresh = kind.create(p, group, dtype)
    return fresh if s is None else fresh.copy_(s)


def _refuse_unsupported(p: Tensor, g: Tensor, reach: Reach) -> None:
    if is_sharded(p) and reach == "tensor":
        raise TypeError(
            f"a parameter of shape {tuple(p.shape)} is sharded, and an option (clip by tensor, centralize, normalize or"
            " cautious) looks at whole tensors; leave it out, or clip by global norm or value."
        )
    for what, x in (("gradient", g), ("parameter", p)):
        if x.layout != torch.strided:
            raise TypeError(
                f"a {what} of shape {tuple(x.shape)} is sparse ({x.layout}); pass it dense: grad.to_dense()."
            )
        if not x.is_floating_point():
            raise TypeError(f"a {what} of shape {tuple(x.shape)} is {x.dtype}; only real floating-point is supported.")


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
