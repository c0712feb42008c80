"""What each parameter is, by the class of the module that holds it and where that module stands: never by a name.

Every function of ``RULES`` answers for what it knows and passes over the rest; the first answer holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.utils.parametrize import ParametrizationList

from thalweg.routing.attention import heads_of, is_attention
from thalweg.routing.network import CONVOLUTIONS, EMBEDDINGS, Network, Node, is_conv1d, sizes
from thalweg.routing.reading import (
    PLAIN,
    Reading,
    expert_splits,
    experts_of,
    fused,
)
from thalweg.routing.usage import use_of

Role: TypeAlias = Literal[
    "matrix", "embedding", "head", "input", "router", "depthwise", "row", "table", "vector", "norm", "token", "position",
    "frozen", "override",
]  # fmt: skip
NO_DECAY: tuple[Role, ...] = ("vector", "norm", "token", "position")
"""The roles that weight decay leaves alone unless ``route`` is told otherwise."""

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Verdict:
    """What a parameter is, and why.  Of the roles, "matrix" alone goes to the optimizer for matrices."""

    role: Role
    reason: str
    reading: Reading = PLAIN


class Ambiguous(Exception):
    """A parameter whose role does not follow from the structure; the text says what is unclear."""


@dataclass(frozen=True, eq=False)
class Place:
    """A parameter in a module that holds it; a tied one has several."""

    attribute: str
    parameter: Tensor
    node: Node
    network: Network

    @property
    def name(self) -> str:
        """As ``named_parameters`` gives it."""
        return f"{self.node.name}.{self.attribute}".removeprefix(".")

    @property
    def module(self) -> nn.Module:
        """The one that holds it."""
        return self.node.module

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole parameter, if it is sharded."""
        return tuple(self.parameter.shape)


def judge(places: list[Place]) -> Verdict:
    """The verdict on a parameter; a tied one goes to the rest if any of its places does.

    Raises:
        Ambiguous: no rule knows it, or its places disagree on how it is read.
    """
    if not places[0].parameter.requires_grad:
        return Verdict("frozen", "requires_grad is False")
    verdicts = [_judge_place(place) for place in places]
    if len(places) == 1:
        return verdicts[0]
    found = next((v for v in verdicts if v.role == "embedding"), None)
    found = found or next((v for v in verdicts if v.role != "matrix"), verdicts[0])
    if found.role == "matrix" and len({v.reading for v in verdicts}) > 1:
        raise Ambiguous("it is tied, and read as matrices in different ways")
    return replace(found, reason=f"{found.reason}; tied to {', '.join(place.name for place in places[1:])}")


def _judge_place(place: Place) -> Verdict:
    return next(verdict for rule in RULES if (verdict := rule(place)) is not None)


def _one_dimensional(place: Place) -> Verdict | None:
    if len(place.shape) > 1:
        return None
    alone = all(p.ndim < 2 for p in place.module.parameters()) and not isinstance(place.module, nn.PReLU)
    if isinstance(place.module, _NORMS) or (alone and place.attribute in ("weight", "bias")):
        return Verdict("norm", "norm: no matrix")
    return Verdict("vector", f"{'bias' if place.attribute == 'bias' else 'one-dimensional'}: no matrix")


def _norm(place: Place) -> Verdict | None:
    return Verdict("norm", "norm: a gain for each element, no matrix") if isinstance(place.module, _NORMS) else None


def _parametrized(place: Place) -> Verdict | None:
    if not isinstance(place.module, ParametrizationList):
        return None
    if sum(n > 1 for n in place.shape) < 2:
        return Verdict("vector", "parametrisation: a magnitude, no matrix")
    return Verdict("table", "parametrisation: the weight is made from it, it is not the matrix itself")


def _embedding(place: Place) -> Verdict | None:
    is_declared = place.node is place.network.tokens and not place.node.children and not sizes(place.node)
    if isinstance(place.module, EMBEDDINGS) or is_declared:
        return Verdict("embedding", "embedding: rows are looked up, each by itself")
    return None


def _head(place: Place) -> Verdict | None:
    if (unclear := place.network.unclear.get(id(place.node))) is not None:
        raise Ambiguous(unclear)
    reason = place.network.heads.get(id(place.node))
    return Verdict("head", reason) if reason is not None else None


def _input(place: Place) -> Verdict | None:
    if id(place.node) not in place.network.inputs:
        return None
    return Verdict("input", "input layer: the first, it reads pixels, samples or features")


def _router(place: Place) -> Verdict | None:
    is_layer = isinstance(place.module, nn.Linear) or place.attribute == "weight"
    if (
        is_layer
        and len(place.shape) == 2
        and place.shape[0] in experts_of(place.node)
        and not is_attention(place.module)
    ):
        return Verdict("router", f"router: chooses among {place.shape[0]} experts, which are its rows")
    return None


def _row(place: Place) -> Verdict | None:
    """A Linear with one output, a scale shaped (d, 1, 1)."""
    if sum(n > 1 for n in place.shape) > 1:
        return None
    if sizes(place.node):
        return Verdict("row", "one row or column: a vector, nothing to orthogonalise")
    return Verdict("token", "a vector with dimensions of 1: a token, query or gain")


def _convolution(place: Place) -> Verdict | None:
    module = place.module
    if not isinstance(module, CONVOLUTIONS):
        return None
    groups = module.groups
    if module.in_channels == groups and groups > 1:
        return Verdict("depthwise", "depthwise convolution: a filter for each channel, no channels are mixed")
    if module.transposed:
        if groups > 1:
            raise Ambiguous("a transposed convolution in groups")
        return Verdict("matrix", "transposed convolution", Reading(transposed=True))
    if groups > 1:
        reading = Reading(splits=(module.out_channels // groups,) * groups)
        return Verdict("matrix", f"convolution in {groups} groups, a matrix each", reading)
    return Verdict("matrix", "convolution in the hidden layers")


def _linear(place: Place) -> Verdict | None:
    if not sizes(place.node):
        return None
    splits, reason = fused(place.node)
    reading = Reading(splits=splits, transposed=is_conv1d(place.module))
    return Verdict("matrix", f"hidden layer: {reason}" if reason else "hidden layer", reading)


def _multihead_attention(place: Place) -> Verdict | None:
    module = place.module
    if not isinstance(module, nn.MultiheadAttention):
        return None
    if place.shape[0] == 3 * module.embed_dim:
        return Verdict("matrix", "hidden layer: q, k and v in one", Reading(splits=(place.shape[1],) * 3))
    return Verdict("matrix", "hidden layer: a projection of nn.MultiheadAttention")


def _recurrent(place: Place) -> Verdict | None:
    module = place.module
    if not isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return None
    gates = place.shape[0] // module.hidden_size
    if gates < 2:
        return Verdict("matrix", "recurrent")
    return Verdict("matrix", f"recurrent: {gates} gates in one", Reading(splits=(module.hidden_size,) * gates))


def _expert_bias(place: Place) -> Verdict | None:
    stacks = [p for p in place.module.parameters(recurse=False) if p.ndim == 3]
    if len(place.shape) == 2 and any(place.shape[0] == s.shape[0] and place.shape[1] in s.shape[1:] for s in stacks):
        return Verdict("vector", "bias of each expert: no matrix")
    return None


def _expert_stack(place: Place) -> Verdict | None:
    """Three dimensions, of which the first counts experts, or any that the module multiplies as a stack of matrices."""
    if len(place.shape) != 3:
        return None
    use = use_of(place.module, place.attribute)
    declared = cast("bool | None", getattr(place.module, "is_transposed", None))
    if declared is None and use not in ("inputs first", "outputs first"):
        return None
    transposed = use == "inputs first" if declared is None else declared
    splits, reason = expert_splits(place.node, place.parameter, transposed)
    what = f"stack of {place.shape[0]} matrices" + (f": {reason}" if reason else "")
    return Verdict("matrix", what, Reading(stacked=True, splits=splits, transposed=transposed))


def _relative_positions(place: Place) -> Verdict | None:
    if len(place.shape) == 2 and heads_of(place.module) in place.shape and is_attention(place.module):
        return Verdict("position", "relative positions: a number for each head, looked up")
    return None


def _position(place: Place) -> Verdict | None:
    if len(place.shape) > 2 and place.shape[0] == 1:
        return Verdict("position", "position table or tokens: vectors under a batch dimension of 1")
    return None


def _bare(place: Place) -> Verdict | None:
    """A parameter that its module uses itself."""
    use = use_of(place.module, place.attribute)
    if use == "elementwise" or (use == "looked up" and len(place.shape) == 2):
        return Verdict("table", "added, looked up or scaled by its module's code: no matrix")
    if use in ("looked up", "unknown") or len(place.shape) > 2:
        raise Ambiguous(
            f"a bare Parameter, and the code of {type(place.module).__name__} does not show a matrix or a table"
        )
    reading = Reading(transposed=use == "inputs first")
    return Verdict("matrix", "multiplied as a matrix by its module's code", reading)


RULES = (
    _one_dimensional,
    _norm,
    _parametrized,
    _embedding,
    _row,
    _head,
    _input,
    _router,
    _convolution,
    _linear,
    _multihead_attention,
    _recurrent,
    _expert_bias,
    _expert_stack,
    _relative_positions,
    _position,
    _bare,
)
