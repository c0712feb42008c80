"""Adadelta, held to torch's."""

from torch.optim import Adadelta

from thalweg.conformance.spec import Spec

SPECS = [
    Spec("adadelta", Adadelta, 1.0),
    Spec("adadelta", Adadelta, 0.5, {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
]
