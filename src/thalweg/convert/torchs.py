"""torch.optim: what its state dicts keep, without how torch executed them."""

from __future__ import annotations

import torch

from thalweg.convert.form import Converted, Saved, decay, flat, listing, number

# Classes, by an entry of their groups that no other of them has.
COVERED = {
    "momentum_decay": "NAdam",
    "amsgrad": "Adam and AdamW",
    "dampening": "SGD",
    "centered": "RMSprop",
    "lr_decay": "Adagrad",
    "rho": "Adadelta",
}
REFUSED = {
    "ns_coefficients": "Muon; take source='torch_muon'",
    "lambd": "ASGD",
    "etas": "Rprop",
    "beta2_decay": "Adafactor",
    "history_size": "LBFGS",
    "betas": "Adamax, RAdam or SparseAdam",
}
ELSEWHERE = {
    "weight_decouple": "pytorch_optimizer",
    "train_mode": "schedulefree, or our own",
    "use_muon": "a Muon with an AdamW beside it",
}
EXECUTION = frozenset(("foreach", "fused", "capturable", "differentiable"))
COUNTERS = {"step": torch.float32, "mu_product": torch.float64}


def of_torch(saved: Saved) -> Converted:
    """A group of an optimizer of torch that has a rule here."""
    alien = next((name for entry, name in ELSEWHERE.items() if entry in saved.group), None)
    if alien or not any(entry in saved.group for entry in COVERED):
        named = next((name for entry, name in REFUSED.items() if entry in saved.group), "no class of torch.optim")
        raise ValueError(
            f"{saved.where} is of {alien or named}; covered are {', '.join(COVERED.values())} of torch.optim."
        )
    group = {n: flat(v) if n in ("lr", "betas") else v for n, v in saved.group.items() if n not in EXECUTION}
    if (flag := group.pop("decoupled_weight_decay", None)) is not None:  # torch before 2.6 has none, in either class
        group["decay"] = decay(flag)
    states = {i: {n: s for n, s in state.items() if s is not None} for i, state in saved.states.items()}
    for i, state in states.items():
        if state and "step" not in state and "dampening" not in group:
            raise ValueError(f"{saved.where}: the state of parameter {i!r} lacks 'step'; it has {listing(state)}.")
        if state:  # SGD counts no steps: all that matters is that the first is past
            state["step"] = state.get("step", 1)
            state |= {n: number(f"{saved.where}: {n}", state[n], dtype) for n, dtype in COUNTERS.items() if n in state}
    yield group, states
