"""A run of the package ``schedulefree``, continued by ours from a checkpoint of either mode: the losses stay the same.

That package advises to save in evaluation mode, when the model holds the average of its path and not the weights that are
trained.  The state dict does not keep those, but they follow from it and the model's weights.

    python examples/continue_from_schedulefree.py
"""

import copy
import io
from typing import Any

import schedulefree
import torch
from sklearn.datasets import load_digits
from torch import nn

import thalweg

SWITCH, END = 60, 120

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
train, test = slice(0, 1400), slice(1400, None)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def losses(model: nn.Module, optimizer: Any, first: int, last: int) -> list[float]:
    """The training losses of some steps, and then the test loss of the average."""
    found: list[float] = []
    optimizer.train()
    for step in range(first, last):
        batch = torch.randint(1400, (64,), generator=torch.Generator().manual_seed(step))
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    optimizer.eval()
    with torch.no_grad():
        return [*found, nn.functional.cross_entropy(model(x[test]), y[test]).item()]


model = network()
reference = schedulefree.AdamWScheduleFree(model.parameters(), lr=0.01, warmup_steps=20, weight_decay=0.01)
losses(model, reference, 0, SWITCH)

files: dict[str, io.BytesIO] = {}
for mode in ("evaluation", "training"):
    (reference.eval if mode == "evaluation" else reference.train)()
    files[mode] = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": reference.state_dict()}, files[mode])
expected = losses(model, reference, SWITCH, END)
print(f"schedulefree alone:       training loss {expected[-2]:.7f}, test loss of the average {expected[-1]:.7f}")

for mode, file in files.items():
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    before = copy.deepcopy(saved)

    model = network()
    model.load_state_dict(saved["model"])
    optimizer = thalweg.AdamWScheduleFree(model.parameters())  # its hyperparameters come with the state
    weights = model.parameters() if mode == "evaluation" else None
    optimizer.load_state_dict(thalweg.convert(saved["optimizer"], source="schedulefree", weights=weights))

    found = losses(model, optimizer, SWITCH, END)
    furthest = max(abs(a - b) / b for a, b in zip(found, expected, strict=True))
    print(f"saved in {mode + ' mode,':16} training loss {found[-2]:.7f}, test loss of the average {found[-1]:.7f}")
    print(f"  continued by thalweg:   the losses differ by at most {furthest:.1e} of their value")
    assert furthest < 1e-3
    assert str(saved) == str(before)
