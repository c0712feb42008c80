"""Train a small network on scikit-learn's handwritten digits with AdamW: change one import, keep the loop.

python examples/train.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import thalweg

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
order = torch.randperm(len(x))
train, test = order[:1400], order[1400:]

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = thalweg.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05, clip=1.0)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=20 * 22)

for epoch in range(20):
    loss = torch.zeros(())
    for batch in train[torch.randperm(len(train))].split(64):
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1:2}  training loss {loss.item():.4f}")

accuracy = (model(x[test]).argmax(1) == y[test]).float().mean().item()
print(f"test accuracy {accuracy:.1%}")
assert accuracy > 0.95
