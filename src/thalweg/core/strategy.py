"""Which strategy a bucket runs under, and why."""

from __future__ import annotations

import shutil
import warnings
from functools import cache

from torch import Tensor

from thalweg.core.sharding import Reach

WORTH_COMPILING = 1 << 22  # elements; below, the seconds of compiling are not won back in a thousand steps


def memory_order(p: Tensor) -> tuple[int, ...]:
    """The dimensions from the slowest to the fastest in memory."""
    return tuple(sorted(range(p.ndim), key=lambda d: (-p.stride(d), d)))


def layout(p: Tensor, reach: Reach) -> str:
    """``"regular"`` where p's elements (its rows, if the step looks at rows) lie without gaps in memory, else ``"odd"``."""
    order = memory_order(p)
    gapless = p.permute(order).is_contiguous()
    return "regular" if gapless and (reach == "element" or order[:1] in ((), (0,))) else "odd"


def choose(
    asked: str, device: str, elements: int, layout: str, reach: Reach = "element", *, one_pass: bool = False
) -> tuple[str, str]:
    """The strategy for a bucket, and the reason for ``repr``; ``one_pass`` steps are a single operation as they are."""
    if layout == "sharded":
        return "each", "sharded parameters, looked at as a whole"
    if layout == "odd":
        return "each", "strided parameters"
    if reach == "matrix":
        return "each" if asked == "each" else "foreach", "matrix products, each a kernel of its own"
    if asked == "auto" and one_pass:
        return "foreach", "one pass over memory, which compiling cannot shorten"
    if asked == "compiled" or (asked == "auto" and elements >= WORTH_COMPILING):
        missing = compiler_missing(device)
        if missing is None:
            return "compiled", "asked for" if asked == "compiled" else "large enough to be worth compiling"
        if asked == "compiled":
            warnings.warn(f'run="compiled": {missing}; running as "foreach".', stacklevel=2)
        return "foreach", missing
    if asked == "auto":
        return "foreach", "too small to be worth compiling"
    return asked, "asked for"


def compiler_missing(device: str) -> str | None:
    """Why nothing can be compiled for this kind of device, or None."""
    return _broken.get(device) or _nothing_found(device)


def give_up_compiling(device: str, error: Exception) -> str:
    """Warn that a kernel could not be made, and return the reason; do not try again if the compiler itself is at fault."""
    from torch._inductor.exc import CppCompileError

    reason = f"compiling failed ({str(error).strip().splitlines()[0]})"
    warnings.warn(f'{reason}; running as "foreach".', stacklevel=2)
    if isinstance(getattr(error, "inner_exception", None), CppCompileError):
        _broken[device] = reason
    return reason


_broken: dict[str, str] = {}


@cache
def _nothing_found(device: str) -> str | None:
    if device == "cuda":
        from torch.utils._triton import has_triton

        return None if has_triton() else "Triton is not installed"
    if device != "cpu":
        return f"no kernels are generated for {device}"
    from torch._inductor import exc
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        compiler = get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        compiler = ""
    return None if shutil.which(compiler) else "no C++ compiler was found"
