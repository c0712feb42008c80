"""How deep a module lies, for learning rates that fall from layer to layer."""

from __future__ import annotations

from thalweg.routing.network import Network, Node, Trunk


def depths(network: Network) -> tuple[dict[int, int], int]:
    """The depth of every module, by id: 0 before the repeated layers, 1 … n in them, n + 1 behind them; and n + 1.

    Raises:
        ValueError: no layers repeat, or two stacks of them are equally long, as in an encoder and a decoder.
    """
    trunk = _the_trunk(network)
    last = len(trunk.blocks) + 1
    found = {id(node): last if node.order > trunk.end else 0 for node in network.nodes}
    for depth, block in enumerate(trunk.blocks, start=1):
        found |= {id(node): depth for node in block.descendants()}
    return found, last


def _the_trunk(network: Network) -> Trunk:
    if not network.trunks:
        raise ValueError(
            "route: layer_decay needs layers that repeat, in an nn.ModuleList or nn.Sequential of modules of one type; this"
            ' model has none.  Give parts of it their own learning rate instead: overrides={"name": {"lr": 1e-4}}.'
        )
    first, *others = sorted(network.trunks, key=lambda trunk: -len(trunk.blocks))
    if others and len(others[0].blocks) == len(first.blocks):
        stacks = ", ".join(f"{_name(t.container)} ({len(t.blocks)})" for t in network.trunks)
        raise ValueError(
            f"route: layer_decay needs one stack of layers to count in; this model has {stacks}, and none is the longest.  Give"
            ' parts of it their own learning rate instead: overrides={"name": {"lr": 1e-4}}.'
        )
    return first


def _name(node: Node) -> str:
    return node.name or "the model"
