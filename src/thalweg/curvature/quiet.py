"""A place to evaluate a loss in which leaves no trace, and in which second derivatives exist.

Kept as they were: the generators of random numbers (torch's, Python's, NumPy's), the gradients in the parameters, and of every
module that runs its buffers and its mode.  Switched meanwhile: attention to the kernel that has a second derivative,
cuDNN (whose recurrent kernels have none) and autocast off, compiled modules to their original code, and
DistributedDataParallel to no synchronization.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

from thalweg.core.sharding import local


class Quiet:
    """Where one operator's losses are evaluated.  Every visit starts from the same random numbers: one dropout mask.

    Args:
        params: the parameters, whose gradients are put aside during a visit.
        module: the network, if known: also what is changed before it runs is then put back.
    """

    def __init__(self, params: Sequence[Tensor], module: nn.Module | None = None) -> None:
        self.params, self.module = params, module
        self.devices = sorted({d.index for p in params if (d := local(p).device).type == "cuda"})
        self.start: RandomNumbers | None = None
        self.process_group: Any = None  # of a DistributedDataParallel that ran
        self.modules_ran = False

    @contextmanager
    def visit(self) -> Generator[None]:
        """Within it, evaluate and differentiate."""
        before = RandomNumbers(self.devices)
        self.start = self.start or before
        kept: dict[nn.Module, Kept] = {}
        copies: dict[Tensor, Tensor] = {}  # a buffer that modules share stays shared
        modes: dict[nn.Module, bool] = {}  # of modules that the loss function switches, before it does
        gradients = [p.grad for p in self.params]
        self.modules_ran = False
        for module in self.module.modules() if self.module is not None else ():
            kept[module] = Kept(module, copies)

        def watch(module: nn.Module, _: Any) -> None:
            self.modules_ran = True
            if module not in kept:
                kept[module] = Kept(module, copies)
            if isinstance(module, DistributedDataParallel):
                module.require_backward_grad_sync = False
                self.process_group = module.process_group

        train = nn.Module.train

        def switch(module: nn.Module, mode: bool = True) -> nn.Module:
            for one in module.modules():
                modes.setdefault(one, one.training)
            return train(module, mode)

        with ExitStack() as stack:
            self.start.restore()
            stack.enter_context(patch.object(nn.Module, "train", switch))
            hook = register_module_forward_pre_hook(watch)
            stack.callback(hook.remove)
            for p in self.params:
                p.grad = None
            for switched in second_derivatives(bool(self.devices)):
                stack.enter_context(switched)
            try:
                yield
            finally:
                for module, were in kept.items():
                    were.restore(module)
                for module, mode in modes.items():
                    module.training = mode
                for p, g in zip(self.params, gradients, strict=True):
                    p.grad = g
                before.restore()


def second_derivatives(cuda: bool) -> Generator[Any]:
    """The contexts in which what would have no second derivative, or a short one, is replaced by what has."""
    yield torch.enable_grad()
    yield sdpa_kernel(SDPBackend.MATH)
    for kind in ("cpu", "cuda") if cuda else ("cpu",):
        yield torch.autocast(kind, enabled=False)
    # It stays off even where the loss function turns it on.
    yield patch.object(torch.autocast, "__enter__", _nothing)
    yield patch.object(torch.autocast, "__exit__", _nothing)
    if cuda:
        yield torch.backends.cudnn.flags(enabled=False)
    if "torch._dynamo" in sys.modules:  # nothing is compiled before it is imported, which takes seconds
        yield torch.compiler.set_stance("force_eager")
        yield warnings.catch_warnings()
        # That the hook fires for a compiled module and its original alike is what is wanted here.
        warnings.filterwarnings("ignore", message="Using `torch.compile\\(module\\)` when there are global hooks")


def _nothing(self: torch.autocast, *error: Any) -> None:
    """What entering and leaving autocast does meanwhile."""


class RandomNumbers:
    """The state of every generator that a loss function may draw from."""

    def __init__(self, devices: Sequence[int]) -> None:
        self.devices = devices
        self.cpu = torch.get_rng_state()
        self.cuda = [torch.cuda.get_rng_state(i) for i in devices]
        self.python = random.getstate()
        self.numpy = sys.modules["numpy"].random.get_state() if "numpy" in sys.modules else None

    @classmethod
    def everywhere(cls) -> RandomNumbers:
        """Of all devices in use."""
        return cls(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ())

    def restore(self) -> None:
        """Put it back."""
        torch.set_rng_state(self.cpu)
        for i, state in zip(self.devices, self.cuda, strict=True):
            torch.cuda.set_rng_state(state, i)
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


class Kept:
    """A module's own buffers and mode, before it runs; it runs with copies of the buffers."""

    def __init__(self, module: nn.Module, copies: dict[Tensor, Tensor]) -> None:
        self.training = module.training
        self.synchronizes = getattr(module, "require_backward_grad_sync", None)
        self.buffers = dict(module.named_buffers(recurse=False, remove_duplicate=False))
        for name, buffer in self.buffers.items():
            if buffer not in copies:
                copies[buffer] = buffer.detach().clone()
            setattr(module, name, copies[buffer])

    def restore(self, module: nn.Module) -> None:
        """Put back what it had."""
        module.training = self.training
        if self.synchronizes is not None:
            module.require_backward_grad_sync = self.synchronizes  # pyright: ignore[reportArgumentType]
        for name, buffer in self.buffers.items():
            setattr(module, name, buffer)
