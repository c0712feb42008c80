"""A run of torch.optim.Muon and AdamW, continued by ours, with Muon's momentum kept as an average and as a sum.

Public versions of Muon keep M ← μM + (1−μ)g (torch, K. Jordan) or M ← μM + g (Moonlight).  Only the direction of M counts, so
they take the same steps, and their buffers differ by 1/(1−μ): loaded as the other, the first steps after it would follow a
momentum 20 times too large or too small.

    python examples/continue_from_muon.py
"""

import copy
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import thalweg

SWITCH, END, MOMENTUM = 60, 120, 0.95

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


def network() -> tuple[nn.Module, list[Tensor], list[Tensor]]:
    """The network, its hidden matrices, and all else."""
    torch.manual_seed(0)
    hidden = [nn.Linear(64, 96), nn.Linear(96, 64)]
    head = nn.Linear(64, 10)
    model = nn.Sequential(hidden[0], nn.ReLU(), hidden[1], nn.ReLU(), head)
    return model, [layer.weight for layer in hidden], [hidden[0].bias, hidden[1].bias, head.weight, head.bias]


def losses(model: nn.Module, optimizers: list[Any], first: int, last: int) -> list[float]:
    found: list[float] = []
    for step in range(first, last):
        batch = torch.randint(len(x), (64,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        found.append(loss.item())
    return found


model, matrices, rest = network()
muon = torch.optim.Muon(matrices, lr=5e-3, momentum=MOMENTUM, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
adamw = torch.optim.AdamW(rest, lr=5e-3)
losses(model, [muon, adamw], 0, SWITCH)
saved = copy.deepcopy({"model": model.state_dict(), "muon": muon.state_dict(), "adamw": adamw.state_dict()})
expected = losses(model, [muon, adamw], SWITCH, END)
print(f"torch alone:         loss {expected[-1]:.5f}")

buffers: dict[bool, Tensor] = {}
for ema in (True, False):
    model, matrices, rest = network()
    model.load_state_dict(saved["model"])
    ours = thalweg.Muon(matrices, arithmetic="bfloat16")  # torch's, everywhere; "auto" takes it on accelerators
    ours.load_state_dict(thalweg.convert(saved["muon"], source="torch_muon", ema=ema))
    beside = thalweg.AdamW(rest)
    beside.load_state_dict(thalweg.convert(saved["adamw"], source="torch"))
    buffers[ema] = ours.state[matrices[0]]["momentum_buffer"].clone()

    found = losses(model, [ours, beside], SWITCH, END)
    furthest = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    form = "as an average" if ema else "as a sum"
    print(f"then thalweg, M kept {form + ':':14} loss {found[-1]:.5f}; the losses differ by at most {furthest:.1e}")
    assert furthest < 1e-2  # what rounding in bfloat16 grows to

ratio = (buffers[False].abs().sum() / buffers[True].abs().sum()).item()
print(f"the sum is {ratio:.2f} times the average; 1/(1−μ) is {1 / (1 - MOMENTUM):.2f}")
assert abs(ratio * (1 - MOMENTUM) - 1) < 1e-5
