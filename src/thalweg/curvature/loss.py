"""A loss function and its parameters, evaluated without a trace and in a precision that curvature can use."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from thalweg.core.names import without_wrappers
from thalweg.core.sharding import is_sharded, whole
from thalweg.curvature.quiet import Quiet
from thalweg.curvature.space import Space
from thalweg.curvature.stand_in import SHORT, StandIn


class Loss:
    """``loss_fn`` as a function of parameters.

    Parameters shorter than float32 are evaluated as float32, together with everything else of a short dtype.  Sharded ones
    (FSDP2) are gathered first, and stay gathered as long as the graph is in use.

    Args:
        loss_fn: returns a scalar loss with its graph, without calling backward.
        params: tensors, named tensors, or a module, whose parameters that require gradients are meant.

    Attributes:
        params, names: as given.
        leaves: what the loss is differentiated by: the parameters themselves, or what stands in for them.
    """

    def __init__(self, loss_fn: Callable[[], Tensor], params: Any) -> None:
        self.loss_fn = loss_fn
        self.module = params if isinstance(params, nn.Module) else None
        self.names, self.params = listed(params)
        require_gradients(self.names, self.params)
        self.quiet = Quiet(self.params, self.module)
        self.recomputes = True  # until a product shows that no module runs again in it
        # What the network computes with.
        self.seen = unsharded(self.module, self.names) if any(map(is_sharded, self.params)) else self.params
        self.widens = any(p.dtype in SHORT for p in (*self.params, *self.seen))
        themselves = self.seen is self.params and not self.widens
        self.leaves = self.params if themselves else [wide(p) for p in self.params]
        self.stand_ins = {} if themselves else dict(zip(self.seen, self.leaves, strict=True))

    def __call__(self) -> Tensor:
        """The loss, with its graph; within ``evaluating``."""
        return self.at(self.stand_ins)

    def at(self, stand_ins: Mapping[Tensor, Tensor]) -> Tensor:
        """The loss with other tensors in the place of parameters."""
        with StandIn(stand_ins, self.widens) if stand_ins else nullcontext():
            loss = self.loss_fn()
        require_unwritten(self.params)
        require_scalar(loss)
        return loss

    def standing_in(self, leaves: Sequence[Tensor]) -> dict[Tensor, Tensor]:
        """What must be in the place of what, for the loss to be a function of other ``leaves``."""
        return self.stand_ins | dict(zip(self.seen, leaves, strict=True))

    def restricted(self, names: Iterable[str]) -> tuple[Loss, list[int]]:
        """The same as a function of some of the parameters, in their order here, and the places of these."""
        wanted = set(names)
        if not wanted or not wanted <= set(self.names):
            raise ValueError(
                f"restricted: names={sorted(wanted)} must be some of the parameters {', '.join(self.names)}."
            )
        places = [i for i, name in enumerate(self.names) if name in wanted]
        part = copy(self)
        part.names, part.params, part.leaves, part.seen = (
            [x[i] for i in places] for x in (self.names, self.params, self.leaves, self.seen)
        )
        return part, places

    @contextmanager
    def evaluating(self) -> Generator[None]:
        """Within it, the loss is evaluated."""
        with self.quiet.visit():
            yield

    @contextmanager
    def differentiating(self) -> Generator[None]:
        """Within it, a kept graph is differentiated; where that runs modules again (checkpointing), they leave no trace."""
        if not self.recomputes:
            yield
            return
        with self.quiet.visit(), StandIn(self.stand_ins, self.widens) if self.stand_ins else nullcontext():
            yield
        self.recomputes = self.quiet.modules_ran

    def space(self) -> Space:
        """The vectors of these parameters; known after the first evaluation, which shows the processes."""
        return Space(self.params, self.quiet.process_group)

    def as_leaves(self, parts: Iterable[Tensor]) -> list[Tensor]:
        """The parts of a vector in the dtypes of the leaves."""
        return [part.to(leaf.dtype) for part, leaf in zip(parts, self.leaves, strict=True)]


def listed(params: Any) -> tuple[list[str], list[Tensor]]:
    """The names and tensors meant by ``params``."""
    if isinstance(params, nn.Module):
        pairs = [(without_wrappers(n), p) for n, p in params.named_parameters() if p.requires_grad]
    else:
        pairs = [
            cast("tuple[str, Tensor]", e) if isinstance(e, tuple) else (f"params[{i}]", cast("Tensor", e))
            for i, e in enumerate(params)
        ]
    return [name for name, _ in pairs], [p for _, p in pairs]


def wide(p: Tensor) -> Tensor:
    """All of a parameter, in float32 or wider, as a leaf of its own."""
    full = whole(p.detach())
    return full.to(torch.promote_types(full.dtype, torch.float32)).clone().requires_grad_()


def unsharded(module: nn.Module | None, names: Sequence[str]) -> list[Tensor]:
    """The parameters that a module under FSDP2 computes with, in place of its sharded ones."""
    from torch.distributed.fsdp import FSDPModule

    if module is None:
        raise ValueError(
            "params are sharded: pass the module itself, hessian(loss_fn, model), so that its parameters can be gathered."
        )
    roots = [m for m in module.modules() if isinstance(m, FSDPModule)]
    for m in roots:
        m.unshard()
    seen = {without_wrappers(name): p for name, p in module.named_parameters()}
    for m in roots:
        m.reshard()
    return [seen[name] for name in names]


def require_gradients(names: Sequence[str], params: Sequence[Tensor]) -> None:
    """Refuse what cannot be differentiated by."""
    if not params:
        raise ValueError("params is empty; curvature needs at least one parameter that requires a gradient.")
    for name, p in zip(names, params, strict=True):
        if not p.requires_grad:
            raise ValueError(f"{name}, shape {tuple(p.shape)}, does not require a gradient; leave it out.")
        if not p.is_floating_point():
            raise TypeError(f"{name} is {p.dtype}; curvature is of real parameters.")


def require_scalar(loss: Any) -> None:
    """Refuse what is no loss."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss_fn returned {type(loss).__name__}; it must return the loss as a 0-D tensor.")
    if loss.ndim:
        raise ValueError(f"loss_fn returned shape {tuple(loss.shape)}; it must return a scalar, shape ().")


def require_unwritten(params: Iterable[Tensor]) -> None:
    """Refuse a function that has called backward: its graph is gone."""
    if any(p.grad is not None for p in params):
        raise ValueError("loss_fn wrote gradients: it must return the loss and leave backward() to its caller.")
