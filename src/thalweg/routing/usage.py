"""How a module's own code uses a parameter that it holds without a layer around it.

A bare ``nn.Parameter`` of two or more dimensions is a matrix, a table or a stack of vectors, and neither its name nor its
shape tells which.  The source does: what is multiplied as a matrix is one.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, cast

from torch import nn

Use = Literal["outputs first", "inputs first", "elementwise", "looked up", "unknown"]

# The argument that is the matrix, and how it is laid out there.
_PRODUCTS: dict[tuple[str, int], Use] = {
    ("linear", 1): "outputs first",
    **{(name, 0): "outputs first" for name in ("matmul", "mm", "bmm")},
    **{(name, 1): "inputs first" for name in ("matmul", "mm", "bmm")},
    **{(name, 1): "outputs first" for name in ("addmm", "baddbmm")},
    **{(name, 2): "inputs first" for name in ("addmm", "baddbmm")},
}
_NAMESPACES = frozenset(("torch", "F", "nn.functional", "torch.nn.functional"))
_FLIPPED: dict[Use, Use] = {"outputs first": "inputs first", "inputs first": "outputs first"}
_ELEMENTWISE = frozenset(
    (
        *("exp", "sigmoid", "softplus", "tanh", "softmax", "add", "mul", "where"),
        *("cat", "concat", "stack", "embedding", "gather", "index_select", "interpolate", "expand", "repeat"),
    )
)
_TRANSPOSES = frozenset(("T", "mT", "t", "transpose"))
_METADATA = frozenset(("shape", "dtype", "device", "ndim", "size", "dim", "data", "requires_grad", "numel"))
_SETUP = frozenset(("__init__", "reset_parameters", "_reset_parameters", "init_weights", "_init_weights", "extra_repr"))


def use_of(module: nn.Module, attribute: str) -> Use:
    """How ``module``'s methods use ``self.attribute``: as a matrix, by element, by index, or in a way that does not show."""
    uses = set(_uses(type(module), attribute))
    if uses == {"elementwise", "looked up"}:
        return "looked up"
    return uses.pop() if len(uses) == 1 else "unknown"


def _uses(cls: type[nn.Module], attribute: str) -> Iterator[Use]:
    parents = _parents(cls)
    for node in parents:
        if _reads(node, attribute) and (use := _climb(node, parents)) is not None:
            yield use


def _reads(node: ast.AST, attribute: str) -> bool:
    """Whether a node is ``self.attribute``, read."""
    if not (isinstance(node, ast.Attribute) and node.attr == attribute and isinstance(node.ctx, ast.Load)):
        return False
    return isinstance(node.value, ast.Name) and node.value.id == "self"


@lru_cache(maxsize=256)
def _parents(cls: type) -> dict[ast.AST, ast.AST]:
    """Each node of the class's methods with the node around it; nothing where there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return {}
    methods = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name not in _SETUP]
    return {child: node for method in methods for node in ast.walk(method) for child in ast.iter_child_nodes(node)}


def _climb(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Use | None:
    """Follow a value outwards to what is done with it; None if only its metadata is read."""
    flipped = looked_up = False
    while True:
        inner, node = node, parents[node]
        if isinstance(node, ast.Attribute):
            if node.attr in _METADATA:
                return None
            flipped ^= node.attr in _TRANSPOSES
            if node.attr in _ELEMENTWISE:
                return "elementwise"
        elif isinstance(node, ast.Subscript) and node.value is inner:
            # A slice of a matrix is one; what an index gives is a row.
            looked_up |= not any(isinstance(part, ast.Slice) for part in ast.walk(node.slice))
        elif isinstance(node, ast.BinOp):
            if not isinstance(node.op, ast.MatMult):
                return "elementwise"
            return _oriented("outputs first" if node.left is inner else "inputs first", flipped)
        elif isinstance(node, ast.Compare):  # with None, mostly
            return None
        elif isinstance(node, ast.Call) and node.func is not inner:
            return _argument(node, inner, flipped)
        elif not isinstance(node, ast.Call | ast.UnaryOp | ast.Tuple | ast.List | ast.Starred):
            return "looked up" if looked_up else "unknown"


def _argument(call: ast.Call, argument: ast.AST, flipped: bool) -> Use | None:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in _ELEMENTWISE:
        return "elementwise"
    if name.endswith("_"):  # torch.nn.init's way of naming
        return None
    function = isinstance(call.func, ast.Name) or ast.unparse(cast("ast.Attribute", call.func).value) in _NAMESPACES
    position = next((i for i, a in enumerate(call.args, 0 if function else 1) if a is argument), -1)
    return _oriented(_PRODUCTS.get((name, position), "unknown"), flipped)


def _oriented(use: Use, flipped: bool) -> Use:
    return _FLIPPED.get(use, use) if flipped else use
