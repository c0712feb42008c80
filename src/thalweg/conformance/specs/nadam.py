"""NAdam, held to torch's."""

from torch.optim import NAdam

from thalweg.conformance.spec import Spec

SPECS = [
    Spec("nadam", NAdam, 1e-2),
    Spec("nadam", NAdam, 1e-2, {"betas": (0.8, 0.99), "momentum_decay": 0.05, "eps": 1e-3, "weight_decay": 0.1}),
    Spec(
        "nadam",
        NAdam,
        1e-2,
        {"decay": "decoupled", "weight_decay": 0.1},
        {"decoupled_weight_decay": True, "weight_decay": 0.1},
    ),
]
