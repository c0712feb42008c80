"""TensorList: a list of tensors that answers torch's functions with foreach kernels.

An equation written for one tensor runs unchanged on a list of them: ``a * b``, ``a.lerp_(b, w)`` and ``torch.where(m, a, b)``
become one ``torch._foreach_*`` call where torch has such a kernel, and a plain loop where it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

# Which second operand each foreach kernel takes beside a list; anything else is looped over.
_TAKES_NUMBER = frozenset(("add", "sub", "mul", "div", "pow", "lerp", "clamp_min", "clamp_max", "maximum", "minimum"))
_TAKES_SCALAR_TENSOR = frozenset(("add", "mul", "div"))
_UNARY = frozenset(("abs", "exp", "log", "neg", "reciprocal", "rsqrt", "sign", "sqrt"))
_OTHER = frozenset(("addcdiv", "addcmul", "copy"))
_FOREACH = _TAKES_NUMBER | _UNARY | _OTHER


def foreach(name: str) -> Callable[..., Any]:
    """torch's kernel of this name over lists of tensors."""
    return getattr(torch, f"_foreach_{name}")


class TensorList:
    """Tensors that are computed on together.  Functions act on each; a reduction gives one 0-D tensor per member."""

    __slots__ = ("tensors",)

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = list(tensors)

    @property
    def dtype(self) -> torch.dtype:
        """Of the first member; the members of a list that is computed on together agree."""
        return self.tensors[0].dtype

    def map(self, function: Callable[..., Any], *others: Any, **kwargs: Any) -> Any:
        """Apply ``function`` member by member; other TensorLists are walked along, everything else is passed as it is.

        A function that returns pairs gives a pair of lists.
        """
        rows = (o.tensors if isinstance(o, TensorList) else [o] * len(self) for o in others)
        named = [
            {n: o.tensors[i] if isinstance(o, TensorList) else o for n, o in kwargs.items()} for i in range(len(self))
        ]
        results = [function(*row, **k) for *row, k in zip(self.tensors, *rows, named, strict=True)]
        if isinstance(results[0], tuple):
            return tuple(TensorList(column) for column in zip(*results, strict=True))
        return TensorList(results) if all(isinstance(r, Tensor) for r in results) else results

    def dot(self, other: TensorList) -> Tensor:
        """Σ ⟨a, b⟩ over all members: a 0-D tensor."""
        return torch.stack([torch.sum(a * b) for a, b in zip(self, other, strict=True)]).sum()

    def norm(self) -> Tensor:
        """Euclidean norm over all members together, accumulated in float32 or wider: a 0-D tensor."""
        wide = torch.promote_types(self.tensors[0].dtype, torch.float32)
        norms: list[Tensor] = foreach("norm")(self.tensors, 2, dtype=wide)
        return torch.stack(norms).square().sum().sqrt()

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)

    def __repr__(self) -> str:
        return f"TensorList({len(self)} tensors, {sum(t.numel() for t in self)} elements)"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _apply(func.__name__.removeprefix("__").removesuffix("__"), func, *args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(Tensor, name)  # an unknown name raises torch's own AttributeError
        return lambda *args, **kwargs: _apply(name, method, self, *args, **kwargs)

    def __add__(self, other: Any) -> TensorList:
        return _apply("add", torch.add, self, other)

    def __sub__(self, other: Any) -> TensorList:
        return _apply("sub", torch.sub, self, other)

    def __mul__(self, other: Any) -> TensorList:
        return _apply("mul", torch.mul, self, other)

    def __truediv__(self, other: Any) -> TensorList:
        return _apply("div", torch.div, self, other)

    def __pow__(self, other: Any) -> TensorList:
        return _apply("pow", torch.pow, self, other)

    def __neg__(self) -> TensorList:
        return _apply("neg", torch.neg, self)

    def __rsub__(self, other: Any) -> TensorList:
        return (-self).add_(other)

    def __rtruediv__(self, other: Any) -> TensorList:
        return _apply("reciprocal", torch.reciprocal, self).mul_(other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __gt__(self, other: Any) -> TensorList:
        return _apply("gt", torch.gt, self, other)

    def __ge__(self, other: Any) -> TensorList:
        return _apply("ge", torch.ge, self, other)

    def __lt__(self, other: Any) -> TensorList:
        return _apply("lt", torch.lt, self, other)


def _apply(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """One function over lists: its foreach kernel where there is one for these operands, else a loop."""
    first = next(a for a in args if isinstance(a, TensorList))
    base = name.removesuffix("_")
    if args[0] is first and base in _FOREACH and all(_kernel_takes(base, a) for a in args[1:]):
        out = foreach(name)(*(a.tensors if isinstance(a, TensorList) else a for a in args), **kwargs)
        return first if name != base else TensorList(out)
    return first.map(lambda _, *row: function(*row, **kwargs), *args)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]


def _kernel_takes(base: str, operand: Any) -> bool:
    if isinstance(operand, TensorList):
        return base not in _UNARY
    if isinstance(operand, Tensor):
        return base in _TAKES_SCALAR_TENSOR and operand.ndim == 0
    return base in _TAKES_NUMBER
