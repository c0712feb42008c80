"""SGD, held to torch's, and in its averaging form to a plain loop."""

from torch import Tensor
from torch.optim import SGD

from thalweg.conformance.loop import Loop, ema
from thalweg.conformance.spec import Spec


class EMA(Loop):
    """m ← βm + (1−β)g, p ← p − ηm, the textbook's form."""

    def one(self, s: dict[str, Tensor], p: Tensor, g: Tensor, t: int, momentum: float) -> None:
        """One step of one parameter."""
        p.sub_(self.lr * ema(s, "m", g, momentum))


SPECS = [
    Spec("sgd", SGD, 0.1),
    Spec("sgd", SGD, 0.1, {"weight_decay": 0.1, "maximize": True}),
    Spec("sgd", SGD, 0.1, {"momentum": 0.9}),
    Spec("sgd", SGD, 0.1, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    Spec("sgd", SGD, 0.1, {"momentum": 0.9, "nesterov": True}),
    Spec("sgd", EMA, 0.1, {"momentum": 0.9, "ema": True}, {"momentum": 0.9}),
]
