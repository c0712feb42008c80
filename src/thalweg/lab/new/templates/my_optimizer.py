"""An optimizer of my own: the sign of the momentum.  Run it: thalweg compare digits-mlp -o my_optimizer.py,adamw"""

from typing import Unpack

from torch import Tensor
from torch.optim.optimizer import ParamsT

from thalweg.core.allowed import fraction
from thalweg.core.optimizer import Optimizer
from thalweg.core.options import Options
from thalweg.core.rule import Scalar, rule, zeros
from thalweg.lab.space import MOMENTUM, Entry, lr


@rule(exp_avg=zeros, allowed={"beta": fraction})
def my_optimizer(g: Tensor, p: Tensor, t: Scalar, *, exp_avg: Tensor, beta: Scalar) -> Tensor:
    """u = sign(m), m ← βm + (1−β)g; the parameter then moves by −ηu.  Bernstein et al. 2018, arXiv:1802.04434"""
    m = exp_avg.lerp_(g, 1 - beta)
    return m.sign()


class MyOptimizer(Optimizer, rule=my_optimizer):
    """The sign of the momentum; clipping, decay, foreach, fused and compiled steps come with `Optimizer`.

    Any other class of ``torch.optim.Optimizer`` will do, too.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        beta: float = 0.9,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay}, options)


OPTIMIZER = MyOptimizer

ENTRY = Entry(
    name="my_optimizer",  # the lab takes the name of the file
    rule="my_optimizer",
    fixed={"beta": 0.9},
    space={
        "lr": lr(0.1),
        "beta": MOMENTUM,
    },  # lr(top): three and a half decades that end at `top`, as wide as everybody's
)
