"""Which parameters a measurement is of, and what the gradients in them are good for."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from thalweg.core import nonfinite
from thalweg.core.names import describe
from thalweg.core.sharding import is_sharded
from thalweg.curvature.loss import listed

Groups = list[dict[str, Any]]


def measured(owner: str, groups: Groups, model: nn.Module | None) -> tuple[list[tuple[str, Tensor]], list[int]]:
    """The parameters that require gradients, with names, and the number of each one's group.

    They are the groups' own; with a model all of the model's, −1 for those that are in no group.

    Raises:
        ValueError: sharded parameters without a model; a parameter that the model does not have.
    """
    trained = {p: (i, j) for i, group in enumerate(groups) for j, p in enumerate(group["params"]) if p.requires_grad}
    if model is None:
        if any(map(is_sharded, trained)):
            raise ValueError(
                f"{owner}: model=None, and the parameters are sharded (FSDP2): pass model=, the module that fully_shard was"
                " called for, through which a measurement gathers them."
            )
        return [(describe(groups, *place), p) for p, place in trained.items()], [i for i, _ in trained.values()]
    reshard(model)
    names, params = listed(model)
    if strangers := trained.keys() - set(params):
        place = min(trained[p] for p in strangers)
        raise ValueError(
            f"{owner}: model={type(model).__name__} does not have {describe(groups, *place)} of the optimizer, shape"
            f" {tuple(groups[place[0]]['params'][place[1]].shape)}; pass the whole network, and make the optimizer after"
            " fully_shard."
        )
    return list(zip(names, params, strict=True)), [trained[p][0] if p in trained else -1 for p in params]


def reshard(model: nn.Module) -> None:
    """Drop what FSDP2 gathered: it would be taken for the parameters after the step has changed their shards."""
    if any(hasattr(module, "reshard") for module in model.modules()):
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def finite_gradients(groups: Groups) -> bool:
    """Whether no gradient is NaN or infinite, on any process."""
    given = gradients(groups)
    return not given or bool(nonfinite.all_finite(given))


def gradient_norm(groups: Groups) -> float:
    """The norm of all gradients, over all processes."""
    given = gradients(groups)
    return nonfinite.global_norm(given).item() if given else 0.0


def gradients(groups: Groups) -> list[Tensor]:
    """Those that a step takes."""
    grads = [p.grad for group in groups for p in group["params"]]
    return [g for g in grads if g is not None and nonfinite.is_checkable(g)]
