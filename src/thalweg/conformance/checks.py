"""The checks of the table: each measures one error of one case, and has one bound for it.

Two runs that must agree to the bit have the bound 0; a check against another program has the rounding of its dtype.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from thalweg.conformance.spec import Spec
from thalweg.conformance.trial import SHAPES, error, give_gradients, parameters, run_together
from thalweg.registry import create

ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-3, torch.float16: 1e-4}
"""Bound on the relative error after the steps of a check.

In the short formats the steps are computed in float32 and equal but for values so near the middle of two neighbours that
float32's own rounding decides; each of them is off by one unit in the last place, 2⁻⁸ or 2⁻¹¹ of its value.
"""


@dataclass(frozen=True)
class Case:
    """One form of a rule, under one strategy, for one dtype of parameters."""

    spec: Spec
    run: str
    dtype: torch.dtype
    device: str = "cpu"
    shapes: Sequence[tuple[int, ...]] = tuple(SHAPES)

    def params(self) -> list[Tensor]:
        """Parameters to begin with."""
        return parameters(self.dtype, self.spec.takes(self.shapes), self.device)

    def make(self, params: Any, **options: Any) -> Optimizer:
        """Our optimizer over ``params``."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"\w+: variant='", UserWarning)  # unsafe ones are held to their form too
            return create(
                self.spec.name, params, **{"lr": self.spec.lr, "run": self.run, **self.spec.kwargs, **options}
            )


def oracle(case: Case) -> float:
    """Distance to the oracle after its steps."""
    ours = case.params()
    run_together([(case.make(ours, precision="nearest"), ours)], _steps(case.dtype))
    return error(ours, _of_oracle(replace(case, run="each")))


@cache
def _of_oracle(case: Case) -> list[Tensor]:
    """Where the oracle ends.  Of short formats it steps a float32 copy, rounded to the nearest after each step."""
    theirs = case.params()
    wide = [p.detach().to(torch.promote_types(case.dtype, torch.float32)).requires_grad_() for p in theirs]
    reference = case.spec.oracle(wide, lr=case.spec.lr, **case.spec.oracle_kwargs)
    generator = torch.Generator().manual_seed(1)
    for _ in range(_steps(case.dtype)):
        give_gradients([[p] for p in theirs], generator)
        for w, p in zip(wide, theirs, strict=True):
            w.grad = None if p.grad is None else p.grad.to(w.dtype)
        reference.step()
        with torch.no_grad():
            for w, p in zip(wide, theirs, strict=True):
                w.copy_(p.copy_(w))
    return [p.detach() for p in theirs]


def _steps(dtype: torch.dtype) -> int:
    """A hundred; in the short formats, whose arithmetic is float32's, fewer: loops are slow."""
    return 100 if dtype.itemsize > 2 else 30


def strategies(case: Case) -> float:
    """Distance to the plainest strategy, tensor by tensor."""
    ours, plain = case.params(), case.params()
    run_together([(case.make(ours), ours), (case.make(plain, run="each"), plain)], steps=10)
    return error(ours, plain)


def resume(case: Case) -> float:
    """Distance of a run continued from its state dict, through ``torch.save``, to the run that went on."""
    return _continued(case, partial(_through_file, weights_only=False))


def weights_only(case: Case) -> float:
    """The same with the loader that runs no code of the file."""
    return _continued(case, _through_file)


def reordered(case: Case) -> float:
    """The same into an optimizer that lists its parameters, which have names, the other way round."""
    return _continued(case, _through_file, _named, lambda params: _named(params)[::-1])


def dcp(case: Case) -> float:
    """The same through ``torch.distributed.checkpoint``."""
    return _continued(case, _through_dcp)


def _continued(
    case: Case,
    carry: Callable[[Optimizer, Optimizer], None],
    listed: Callable[[list[Tensor]], Any] = list,
    listed_again: Callable[[list[Tensor]], Any] = list,
) -> float:
    """Three steps; ``carry`` from the first optimizer into a second, over copies; three steps of both."""
    ours = case.params()
    first = case.make(listed(ours))
    run_together([(first, ours)], steps=3)
    theirs: list[Tensor] = [nn.Parameter(p.detach().clone()) for p in ours]
    second = case.make(listed_again(theirs))
    carry(first, second)
    run_together([(first, ours), (second, theirs)], steps=3, seed=2)
    return error(ours, theirs)


def _named(params: list[Tensor]) -> list[tuple[str, Tensor]]:
    return [(f"p{i}", p) for i, p in enumerate(params)]


def _through_file(first: Optimizer, second: Optimizer, *, weights_only: bool = True) -> None:
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=weights_only))


def _through_dcp(first: Optimizer, second: Optimizer) -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load  # pyright: ignore[reportUnknownVariableType]
    from torch.distributed.checkpoint.state_dict_saver import save  # pyright: ignore[reportUnknownVariableType]

    here, there = (nn.ParameterList(o.param_groups[0]["params"]) for o in (first, second))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # one process: as intended
        warnings.filterwarnings("ignore", "TypedStorage is deprecated", UserWarning)  # raised by torch itself
        save({"optimizer": get_optimizer_state_dict(here, first)}, checkpoint_id=folder)
        states = {"optimizer": get_optimizer_state_dict(there, second)}
        load(states, checkpoint_id=folder)
    set_optimizer_state_dict(there, second, states["optimizer"])


CHECKS: dict[str, Callable[[Case], float]] = {
    "oracle": oracle,
    "strategies agree": strategies,
    "resume": resume,
    "weights_only": weights_only,
    "DCP": dcp,
    "names reordered": reordered,
}
"""By their title in the table; the one over processes is in ``sharded``."""


def bound(check: str, case: Case) -> float:
    """The error that a check allows."""
    if check not in ("oracle", "strategies agree", "FSDP2"):
        return 0.0
    rounding = ROUNDING[case.dtype]
    return rounding if case.dtype == torch.float64 else max(rounding, case.spec.float32)
