"""Which part of a network has no second derivative."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn.modules.module import register_module_forward_hook

from thalweg.curvature.loss import Loss
from thalweg.curvature.nested import tensors

SIGNS = (
    "derivative",
    "differentiate twice",
    "double backward",
    "once_differentiable",
    "not implemented",
    "forward AD",
    "jvp",
)

TRANSPARENT = ("torch.distributed.fsdp", "torch.utils.checkpoint")
"""Whose functions hand gradients on as they are."""


class NoSecondDerivative(RuntimeError):
    """A part of the loss whose gradient cannot be differentiated."""


def no_second_derivative(source: Loss) -> NoSecondDerivative:
    """The error that says where, and what to do."""
    return NoSecondDerivative(
        f"{named_culprit(source)} has no second derivative; replace it for the probe by plain torch operations, or take"
        ' hessian(…, method="difference"), which needs first derivatives only.'
    )


def has_custom_functions(loss: Tensor) -> bool:
    """Whether the graph of a loss contains an ``autograd.Function`` written in Python, into which autograd does not see."""
    waiting, seen = [loss.grad_fn], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, BackwardCFunction) and not node._forward_cls.__module__.startswith(TRANSPARENT):  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def lacks_second_derivative(error: Exception) -> bool:
    """Whether an error says so: ours, or one of autograd's."""
    return isinstance(error, NoSecondDerivative) or any(sign in str(error) for sign in SIGNS)


def named_culprit(source: Loss) -> str:
    """The innermost module whose backward cannot be differentiated, in words."""
    seen = calls(source)
    with source.evaluating():  # whose gradients go nowhere
        for module, inputs, outputs in seen:
            leaves = [x for x in (*tensors(inputs), *module.parameters()) if x.requires_grad]
            ends = [x for x in tensors(outputs) if x.requires_grad]
            if leaves and ends and not twice_differentiable(ends, leaves):
                return f"module {name_of(module, source.module)!r} ({type(module).__name__})"
    return "the loss function, outside of any module,"


def calls(source: Loss) -> list[tuple[nn.Module, Any, Any]]:
    """Every call of a module with its inputs and outputs, in the order in which they end: inner ones before outer ones."""
    seen: list[tuple[nn.Module, Any, Any]] = []

    def note(module: nn.Module, inputs: Any, outputs: Any) -> None:
        seen.append((module, inputs, outputs))

    with source.evaluating():
        hook = register_module_forward_hook(note)
        try:
            source()
        finally:
            hook.remove()
    return seen


def twice_differentiable(ends: list[Tensor], leaves: list[Tensor]) -> bool:
    """Whether the gradient of ``ends`` by ``leaves`` can be differentiated, as far as autograd can tell."""
    weights = [torch.ones_like(x, requires_grad=True) for x in ends]
    try:
        slopes: Any = torch.autograd.grad(ends, leaves, weights, create_graph=True, allow_unused=True)
        onward = [g for g in slopes if g is not None]
        if not all(g.requires_grad for g in onward):
            return False
        # By everything that the gradient depends on: by the leaves alone, autograd would pass over functions that refuse.
        torch.autograd.backward([g.sum() for g in onward], retain_graph=True)
    except (RuntimeError, NotImplementedError) as error:
        # Autograd has no class of its own for this; any other error is not what is looked for, so on to the next module.
        return not lacks_second_derivative(error)
    return True


def name_of(module: nn.Module, root: nn.Module | None) -> str:
    """Its place in the network; without that, its class."""
    places: Any = root.named_modules() if root is not None else ()  # pyright: ignore[reportUnknownVariableType]
    return next((name for name, m in places if m is module and name), type(module).__name__)
