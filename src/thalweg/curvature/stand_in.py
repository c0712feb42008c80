"""Stand-ins for parameters: a loss evaluated at other values, in another dtype or with tangents, the model untouched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SHORT = (torch.bfloat16, torch.float16)


class StandIn(TorchFunctionMode):
    """Within it, torch's functions see other tensors in the place of parameters.

    Args:
        tensors: what stands in for each parameter.
        widen: whether bfloat16 and float16 tensors, and calls that would make one, are float32 instead.
    """

    def __init__(self, tensors: Mapping[Tensor, Tensor], widen: bool = False) -> None:
        super().__init__()
        self.tensors, self.widen = tensors, widen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.widen and func in (Tensor.bfloat16, Tensor.half):
            func = Tensor.float
        return func(*self.replaced(args), **self.replaced(kwargs or {}))

    def replaced(self, x: Any) -> Any:
        """The same arguments, with what stands in."""
        if isinstance(x, Tensor):
            x = self.tensors.get(x, x)
            return x.float() if self.widen and x.dtype in SHORT else x
        if isinstance(x, tuple | list):
            listed = cast("list[Any]", x)
            return type(listed)(map(self.replaced, listed)) if type(listed) in (tuple, list) else listed
        if isinstance(x, dict):
            return {name: self.replaced(value) for name, value in cast("dict[str, Any]", x).items()}
        return torch.float32 if self.widen and isinstance(x, torch.dtype) and x in SHORT else x
