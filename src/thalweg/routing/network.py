"""What a model's structure says: which modules repeat, which read the input, which give the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, cast

from torch import nn

from thalweg.core.names import without_wrappers
from thalweg.routing.attention import is_attention

CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


@dataclass(eq=False)
class Node:
    """A module where it stands.  Wrappers (DDP, torch.compile, FSDP) are seen through; their names stay in ``name``."""

    name: str
    module: nn.Module
    parent: Node | None
    children: list[Node] = field(default_factory=list["Node"])
    order: int = 0  # of registration, which stands for the order of the forward pass

    def descendants(self) -> Iterator[Node]:
        """Itself and all below it, in order of registration."""
        yield self
        for child in self.children:
            yield from child.descendants()

    def ancestors(self) -> Iterator[Node]:
        """Itself, its parent, and so on to the model."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


@dataclass(frozen=True)
class Trunk:
    """Layers that repeat: the blocks of a ModuleList or Sequential."""

    container: Node
    blocks: tuple[Node, ...]

    @property
    def end(self) -> int:
        """The order of its last module."""
        return max(node.order for node in self.blocks[-1].descendants())


class Network:
    """A model's modules in order of registration, and the roles that follow from where they stand."""

    def __init__(self, model: nn.Module) -> None:
        self.root = _tree(model, "", None, set())
        self.nodes = list(self.root.descendants())
        for order, node in enumerate(self.nodes):
            node.order = order
        self.of = {id(node.module): node for node in self.nodes}
        self.body = self._body()
        self.tokens = self._declared("get_input_embeddings")
        self.trunks = _trunks(self.root)
        self.repeated = {id(n) for trunk in self.trunks for block in trunk.blocks for n in block.descendants()}
        self.inputs = {id(node) for node in self._inputs()}
        self.heads: dict[int, str] = {}  # the reason, by node
        self.unclear: dict[int, str] = {}
        self._find_heads()

    def _body(self) -> Node:
        """The model without its heads, where it says so, as those of transformers do; else all of it."""
        return self.of.get(id(getattr(self.root.module, "base_model", None)), self.root)

    def _declared(self, getter: str) -> Node | None:
        """The module that a model of transformers names by this method."""
        ask = cast("Callable[[], Any] | None", getattr(self.root.module, getter, None))
        try:
            return self.of.get(id(ask())) if ask is not None else None
        except NotImplementedError:  # transformers' way to say that a model has none
            return None

    def _inputs(self) -> Iterator[Node]:
        """The first layer of the model and of each tower, if it is no embedding: it reads pixels, samples or features."""
        for tower in [self.body, *map(self._tower, self.trunks)]:
            first = next((n for n in tower.descendants() if sizes(n) or isinstance(n.module, EMBEDDINGS)), None)
            if first is None or isinstance(first.module, EMBEDDINGS) or self._in_attention(first):
                continue
            # A convolution may be the first of repeated ones; a Linear that starts a tower may read another tower.
            needed = all if id(first) in self.repeated else any
            if needed((isinstance(first.module, CONVOLUTIONS), tower is self.body)):
                yield first

    def _tower(self, trunk: Trunk) -> Node:
        """The largest part of the model with this trunk and no other."""
        others = {id(t.container) for t in self.trunks} - {id(trunk.container)}
        around = {id(a) for a in self.body.ancestors()} - {id(self.body)}
        alone = [
            a
            for a in trunk.container.ancestors()
            if id(a) not in around and not any(id(d) in others for d in a.descendants())
        ]
        return alone[-1] if alone else trunk.container

    def _in_attention(self, node: Node) -> bool:
        """Whether it is part of an attention.  A whole model may know its number of heads too."""
        above = {id(a) for trunk in self.trunks for a in trunk.container.ancestors()} | {id(self.root)}
        parent = node.parent
        return parent is not None and id(parent) not in above and is_attention(parent.module)

    def _find_heads(self) -> None:
        """The output layers: what the model declares, and every Linear behind the layers that no other one reads."""
        end = max((trunk.end for trunk in self.trunks), default=-1)
        inside = {id(node) for node in self.body.descendants()}
        behind = [n for n in self.nodes if sizes(n) and (n.order > end or not {id(n)} & (inside | self.repeated))]
        behind.sort(key=lambda n: id(n) not in inside)  # a head may be registered first, and still comes last
        convolutions = [n for n in behind if isinstance(n.module, CONVOLUTIONS)]
        linears = [n for n in behind if n not in convolutions and not self._in_attention(n)]
        for i, node in enumerate(linears):
            self._judge_head(node, linears[i + 1 :])
        if not linears and convolutions:
            self.heads[id(convolutions[-1])] = "output layer: the last convolution, and no Linear follows"
        if (output := self._declared("get_output_embeddings")) is not None:
            self.heads[id(output)] = "output layer: the model's get_output_embeddings()"
        elif not self.heads and self.trunks and not hasattr(self.root.module, "get_output_embeddings"):
            for node in self.nodes:
                if isinstance(node.module, nn.Linear) and not {id(node)} & (self.repeated | self.inputs):
                    self.unclear[id(node)] = (
                        "it stands before the repeated layers: a projection of the input, or the head?"
                    )

    def _judge_head(self, node: Node, later: list[Node]) -> None:
        readers = [n for n in later if sizes(n)[1] == sizes(node)[0]]
        if any(sizes(n)[0] != sizes(node)[0] or _sequential(node, n) for n in readers):
            return
        if not readers:
            self.heads[id(node)] = "output layer: no later Linear reads it"
        elif self.trunks:  # of equal shapes and behind the layers: side by side, as the projections of two towers
            self.heads[id(node)] = "output layer: beside another of its shape, behind the repeated layers"
        else:
            self.unclear[id(node)] = f"{readers[0].name} has its shape: does that one read it, or are both the output?"


def sizes(node: Node) -> tuple[int, ...]:
    """(outputs, inputs) of a Linear or convolution; empty for any other module."""
    module = node.module
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    if isinstance(module, CONVOLUTIONS):
        return module.out_channels, module.in_channels
    if is_conv1d(module):
        inputs, outputs = cast("nn.Parameter", module.weight).shape
        return outputs, inputs
    return ()


def is_conv1d(module: nn.Module) -> bool:
    """Whether it is transformers' Conv1D, a Linear whose weight is stored (in, out)."""
    return any(c.__name__ == "Conv1D" and c.__module__ == "transformers.pytorch_utils" for c in type(module).__mro__)


def _tree(module: nn.Module, name: str, parent: Node | None, seen: set[int]) -> Node:
    children = list(module.named_children())
    while len(children) == 1 and not without_wrappers(children[0][0]) and not module._parameters:  # pyright: ignore[reportPrivateUsage]
        name, module = _join(name, children[0][0]), children[0][1]
        children = list(module.named_children())
    node = Node(name, module, parent)
    seen.add(id(module))
    node.children = [_tree(m, _join(name, n), node, seen) for n, m in children if id(m) not in seen]
    return node


def _join(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _trunks(node: Node) -> list[Trunk]:
    """The outermost runs of repeated layers."""
    if blocks := _blocks(node):
        return [Trunk(node, tuple(blocks))]
    return [trunk for child in node.children for trunk in _trunks(child)]


def _blocks(node: Node) -> list[Node]:
    """The repeated layers of a container: a ModuleList's modules, a Sequential's longest run of one type."""
    if isinstance(node.module, nn.ModuleList):
        return node.children if all(map(_is_block, node.children)) else []
    if isinstance(node.module, nn.Sequential):
        runs = [list(run) for _, run in groupby(node.children, key=lambda n: (type(n.module), _is_block(n)))]
        return max((run for run in runs if len(run) > 1 and _is_block(run[0])), key=len, default=list["Node"]())
    return []


def _is_block(node: Node) -> bool:
    """Whether it is made of parts and holds a matrix."""
    return bool(node.children) and any(p.ndim > 1 for p in node.module.parameters())


def _sequential(first: Node, second: Node) -> bool:
    """Whether a Sequential holds both, so that one surely follows the other."""
    above = {id(node) for node in second.ancestors()}
    common = next(node for node in first.ancestors() if id(node) in above)
    return isinstance(common.module, nn.Sequential)
