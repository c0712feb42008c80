"""Train in a loop of one's own with Accelerate, two batches to a step; resume bit for bit.

`prepare` wraps a thalweg optimizer as it wraps torch's: under `accumulate` it steps only when a gradient is complete.
`clip` acts inside the step, in place of `accelerator.clip_grad_norm_` and of asking when to call it.

    python examples/accelerate_loop.py
"""

from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from accelerate import Accelerator
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import thalweg

EPOCHS, HALF, BATCH, ACCUMULATE = 20, 10, 16, 2

torch.manual_seed(0)
measurements, diagnoses = load_breast_cancer(return_X_y=True)
x, y = torch.tensor(measurements, dtype=torch.float32), torch.tensor(diagnoses)
order = torch.randperm(len(x))
train, test = order[:448], order[448:]
x = (x - x[train].mean(0)) / x[train].std(0)
steps_per_epoch = len(train) // (BATCH * ACCUMULATE)


def fit(folder: str, resume: bool = False) -> nn.Module:
    """Train to the end, from the start with the state saved half-way, or from that state."""
    model = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
    optimizer = thalweg.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05, clip=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=EPOCHS * steps_per_epoch)
    loader = DataLoader(TensorDataset(x[train], y[train]), BATCH, shuffle=True)

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
    model, optimizer, loader, schedule = cast(Any, accelerator.prepare(model, optimizer, loader, schedule))
    if resume:
        accelerator.load_state(folder)  # random numbers too: dropout and the order of batches go on as they would have
    for epoch in range(HALF if resume else 0, EPOCHS):
        loss = torch.zeros(())
        for batch, target in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(batch), target)
                accelerator.backward(loss)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        assert {int(s["step"]) for s in optimizer.state.values()} == {(epoch + 1) * steps_per_epoch}
        if epoch % 5 == 4:
            print(f"  epoch {epoch + 1:2}  lr {schedule.get_last_lr()[0]:.1e}  training loss {loss.item():.4f}")
        if epoch + 1 == HALF and not resume:
            accelerator.save_state(folder)
    return accelerator.unwrap_model(model).eval()


with TemporaryDirectory() as folder:
    print("from the start")
    straight = fit(folder)
    print(f"a new model and optimizer, from the state after epoch {HALF}")
    resumed = fit(folder, resume=True)

accuracy = (straight(x[test]).argmax(1) == y[test]).float().mean().item()
same = all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
print(f"test accuracy {accuracy:.1%}; resumed weights {'equal' if same else 'differ'}")
assert accuracy > 0.9
assert same
