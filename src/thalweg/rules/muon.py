"""Muon: momentum whose every direction is made equally long."""

from __future__ import annotations

from typing import Any, Literal, Unpack

from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core import matrices
from thalweg.core.allowed import Choice, Range, Wholes, flag, fraction, nonnegative
from thalweg.core.matrices import Iteration, Layout
from thalweg.core.names import named
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Scalar, rule, zeros


@rule(
    momentum_buffer=zeros,
    reach="matrix",
    takes_lists=True,
    static=("ns_steps", "splits"),
    allowed={
        "momentum": fraction,
        "nesterov": flag,
        "ema": flag,
        "adjust": Choice(tuple(matrices.ADJUST)),
        "coefficients": Choice(tuple(matrices.COEFFICIENTS)),
        "ns_steps": Range(0, 100, whole=True),
        "eps": nonnegative,
        "arithmetic": Choice(("auto", "float32", "bfloat16")),
        "stacked": flag,
        "splits": Wholes(),
        "transposed": flag,
    },
)
def muon(
    g: Tensor,
    p: Tensor,
    t: Scalar,
    *,
    momentum_buffer: Tensor,
    momentum: Scalar,
    nesterov: bool,
    ema: bool,
    adjust: str,
    coefficients: str,
    ns_steps: int,
    eps: Scalar,
    arithmetic: str,
    stacked: bool,
    splits: tuple[int, ...],
    transposed: bool,
) -> Tensor:
    """u = s · UVᵀ of wg + μM = UΣVᵀ (Nesterov) or of M, where M ← μM + wg, w = 1 − μ or 1.  K. Jordan et al. 2024, "Muon"."""
    g = g * (1 - momentum) if ema else g
    m = momentum_buffer.mul_(momentum).add_(g)
    u = g + momentum * m if nesterov else m
    find = Iteration(eps, coefficients, ns_steps, arithmetic)
    return matrices.orthogonalized(u, find, adjust, Layout(stacked, tuple(splits), transposed))


DIALECTS: dict[str, dict[str, Any]] = {
    "torch": dict(lr=1e-3, weight_decay=0.1, ema=True, adjust="original"),
    "keller": dict(lr=0.02, weight_decay=0.0, ema=True, adjust="original"),
    "moonlight": dict(lr=1e-3, weight_decay=0.1, ema=False, adjust="match_rms_adamw"),
}
"""What each public implementation takes where nothing is said, and how it keeps its momentum."""


class Muon(Optimizer, rule=muon, decay="decoupled"):
    """Momentum, orthogonalized, for the matrices inside a network.  K. Jordan et al. 2024, "Muon"; torch.optim.Muon.

    ``M ← μM + (1−μ)g,  UΣVᵀ = (1−μ)g + μM,  p ← (1 − ηλ)p − ηs UVᵀ``

    A step changes what a layer does to any input by about the same amount, so directions that are rare in the gradient are
    learned as fast as frequent ones.  That is meant for the weights of hidden layers.  Embeddings, heads, norms and biases
    belong to another rule: ``thalweg.route(model)`` sorts them, ``thalweg.Mixed`` steps both.

    Args:
        params: parameters with two dimensions or more, named parameters, or groups of them.
        lr: step size η; a float or a 0-D tensor.  None, here and below: what the dialect has.
        weight_decay: strength λ of the decay.
        momentum: μ in [0, 1).
        nesterov: take the step from the gradient and M, rather than from M.
        ema: M ← μM + (1−μ)g; else the sum M ← μM + g, whose steps are the same and whose buffer is 1/(1−μ) as large.
        adjust: s for a matrix with a row an output: ``"original"`` √max(1, rows/columns); ``"match_rms_adamw"``
            0.2 √max(rows, columns), for a learning rate and decay tuned for AdamW; ``"spectral"`` √(rows/columns), for
            learning rates that carry over to other widths.
        coefficients: of the steps that find UVᵀ: ``"quintic"``, whose singular values end between 0.7 and 1.2;
            ``"polar_express"``, which ends nearer 1 for the same work.
        ns_steps: how many such steps.
        eps: added to ‖X‖, by which X is divided first.
        arithmetic: of these steps: ``"float32"``; ``"bfloat16"``, some percent less exact; ``"auto"`` takes it on an
            accelerator.  float64 parameters are computed on in float64.
        stacked: the first dimension counts matrices: the experts (E, outputs, inputs) of a mixture.  Otherwise a tensor with
            more dimensions is one matrix (outputs, all others): a convolution.
        splits: sizes of the runs of outputs that are matrices of their own: ``(d, d, d)`` of a fused QKV.
        transposed: parameters are kept as (inputs, outputs).
        match: whose defaults and form: ``"torch"``, ``"keller"`` or ``"moonlight"``.
        options: see ``thalweg.Options``.

    Raises:
        ValueError: a parameter that is no matrix, or ``splits`` that its outputs do not add up to.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor | None = None,
        weight_decay: float | None = None,
        momentum: float = 0.95,
        nesterov: bool = True,
        ema: bool | None = None,
        adjust: Literal["original", "match_rms_adamw", "spectral"] | None = None,
        coefficients: Literal["quintic", "polar_express"] = "quintic",
        ns_steps: int = 5,
        eps: float = 1e-7,
        arithmetic: Literal["auto", "float32", "bfloat16"] = "auto",
        stacked: bool = False,
        splits: tuple[int, ...] = (),
        transposed: bool = False,
        match: Literal["torch", "keller", "moonlight"] = "torch",
        **options: Unpack[Options],
    ) -> None:
        Choice(tuple(DIALECTS)).check("Muon: match", match)
        given = dict(lr=lr, weight_decay=weight_decay, ema=ema, adjust=adjust)
        own = dict(
            momentum=momentum,
            nesterov=nesterov,
            coefficients=coefficients,
            ns_steps=ns_steps,
            eps=eps,
            arithmetic=arithmetic,
            stacked=stacked,
            splits=tuple(splits),
            transposed=transposed,
        )
        own |= DIALECTS[match] | {name: value for name, value in given.items() if value is not None}
        super().__init__(params, own, options)

    @classmethod
    def check_group(cls, group: dict[str, Any]) -> None:
        """Refuses what is no matrix, and splits that do not add up."""
        stacked, splits = group["stacked"], tuple(group["splits"])
        layout = Layout(stacked, splits, group["transposed"])
        for name, p in named(group["params"]):
            if p.ndim < (3 if stacked else 2):
                raise ValueError(
                    f"Muon: {name} has shape {tuple(p.shape)}; a {'stack of matrices' if stacked else 'matrix'} is needed."
                    " thalweg.route(model) finds the matrices, and another rule for the rest."
                )
            if splits and sum(splits) != (rows := layout.outputs(p.shape)):
                raise ValueError(f"Muon: splits={splits} add up to {sum(splits)}; {name} has {rows} outputs.")
