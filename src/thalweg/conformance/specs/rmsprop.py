"""RMSprop, held to torch's."""

from torch.optim import RMSprop

from thalweg.conformance.spec import Spec

SPECS = [
    Spec("rmsprop", RMSprop, 1e-2),
    Spec("rmsprop", RMSprop, 1e-2, {"alpha": 0.5, "eps": 1e-3, "weight_decay": 0.1}),
    Spec("rmsprop", RMSprop, 1e-2, {"centered": True, "eps": 1e-3}),
    Spec("rmsprop", RMSprop, 1e-2, {"momentum": 0.9}),
    Spec("rmsprop", RMSprop, 1e-2, {"momentum": 0.9, "centered": True, "eps": 1e-3}),
]
