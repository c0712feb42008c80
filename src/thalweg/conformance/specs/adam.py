"""Adam and AdamW, held to torch's."""

from torch.optim import Adam, AdamW

from thalweg.conformance.spec import Spec

SPECS = [
    Spec("adam", Adam, 1e-2),
    Spec("adam", Adam, 1e-2, {"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    Spec("adam", Adam, 1e-2, {"amsgrad": True}),
    Spec("adam", AdamW, 1e-2, {"decay": "decoupled", "weight_decay": 0.1}, {"weight_decay": 0.1}),
    Spec("adamw", AdamW, 1e-2),
    Spec("adamw", AdamW, 1e-2, {"amsgrad": True, "weight_decay": 0.1, "maximize": True}),
]
