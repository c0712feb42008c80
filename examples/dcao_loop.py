"""Train on scikit-learn's handwritten digits at learning rates that are far too high, and let curvature lower them.

An existing loop changes in two places, marked below: the optimizer's name, and the argument of its step.

python examples/dcao_loop.py
"""

from collections import Counter
from statistics import median

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import thalweg

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, test = order[:1400], order[1400:]


def new() -> nn.Sequential:
    """The same network every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def accuracy(model: nn.Sequential) -> float:
    """On the test set."""
    return (model(x[test]).argmax(1) == y[test]).float().mean().item()


def before(model: nn.Sequential, lr: float) -> thalweg.SGD:
    """An ordinary loop."""
    optimizer = thalweg.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(10):
        for batch in train[torch.randperm(len(train))].split(64):
            loss = cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return optimizer


def after(model: nn.Sequential, lr: float) -> thalweg.DCAO:
    """The same loop, steered: lr is now the most that is used."""
    optimizer = thalweg.DCAO(model.parameters(), lr=lr, momentum=0.9)  # was SGD
    for _ in range(10):
        for batch in train[torch.randperm(len(train))].split(64):

            def loss_fn(batch: Tensor = batch) -> Tensor:
                return cross_entropy(model(x[batch]), y[batch])

            optimizer.zero_grad()
            loss_fn().backward()
            optimizer.step(loss_fn)  # was step(); the loss of the same batch, called at some steps, to measure
    return optimizer


for lr in (0.1, 3.0, 30.0):
    before(model := new(), lr)
    plain = accuracy(model)
    history = after(model := new(), lr).history
    governed, used = accuracy(model), median(decision.used for decision in history)
    print(f"lr {lr:4}  test accuracy: plain {plain:5.1%}  governed {governed:5.1%}, at {used:.3f} in the median")
    assert governed > 0.9

    held = Counter(decision.active for decision in history).most_common()
    print("         held by", ", ".join(f"{name} at {n / len(history):.0%} of the steps" for name, n in held))

last = history[-1]
bounds = ", ".join(f"{name} {bound:.3f}" for name, bound in last.bounds.items())
print(f"the last step was asked for {last.asked:g}; bounds: {bounds}; it used {last.used:.3f}")
print(
    f"λ̂, the largest eigenvalue as last measured: {last.sharpness:.3g}, {last.ratio:.0%} of what that learning rate bears"
)
print(f"measuring cost {sum(decision.cost for decision in history) / len(history):.0%} of the {len(history)} gradients")
