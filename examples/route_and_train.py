"""Train a small vision transformer with Muon on its hidden matrices and AdamW on everything else, as one optimizer.

python examples/route_and_train.py
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import thalweg

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
order = torch.randperm(len(x))
train, test = order[:1400], order[1400:]


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Digits(nn.Module):
    """Each row of eight pixels is a patch."""

    def __init__(self, dim: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.patches = nn.Linear(8, dim)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 8, dim))
        self.blocks = nn.ModuleList(Block(dim, heads=4) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x.view(-1, 8, 8)) + self.positions
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h).mean(1))


model = Digits()
routes = thalweg.route(
    model,
    matrix_options={"lr": 0.02, "weight_decay": 0.01},
    rest_options={"lr": 3e-3, "weight_decay": 0.01},
)
print(routes.table())

optimizer = thalweg.Mixed(routes)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15 * 22)
assert thalweg.preflight(model, optimizer) == []

for epoch in range(15):
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
assert accuracy > 0.9
