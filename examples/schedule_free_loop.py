"""Train on scikit-learn's handwritten digits without a schedule: two sets of weights, BatchNorm, and saves in either mode.

AdamWScheduleFree takes gradients at one point and is evaluated at another, the average of its path.  The loop below

- evaluates the average in `with optimizer.evaluation():`, after `thalweg.update_bn` has recomputed BatchNorm's statistics;
- is saved half-way in training mode and in evaluation mode; both resume to the same bits;
- shows that weights of one mode beside the state of the other are refused.

    python examples/schedule_free_loop.py
"""

import io
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import thalweg

EPOCHS, HALF = 20, 10

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
order = torch.randperm(len(x))
train, test = order[:1408], order[1408:]
inputs: list[Tensor] = [x[batch] for batch in train.split(64)]


def new() -> tuple[nn.Module, thalweg.AdamWScheduleFree]:
    """A model and its optimizer; the warm-up is 5 % of the steps, and there is no other schedule."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))
    return model, thalweg.AdamWScheduleFree(model.named_parameters(), lr=1e-2, weight_decay=0.05, warmup_steps=22)


def accuracy(model: nn.Module) -> float:
    """On the test set, with the weights and statistics that the model holds."""
    model.eval()
    with torch.no_grad():
        right = (model(x[test]).argmax(1) == y[test]).float().mean().item()
    model.train()
    return right


def epochs(model: nn.Module, optimizer: thalweg.AdamWScheduleFree, numbers: range) -> None:
    """Plain training; the order of the batches follows from the epoch's number alone."""
    for epoch in numbers:
        shuffled = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(epoch))]
        for batch in shuffled.split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 5 == 4:
            thalweg.update_bn(inputs, model, optimizer)
            with optimizer.evaluation():
                print(f"epoch {epoch + 1:2}  test accuracy of the average {accuracy(model):.1%}")


def saved(model: nn.Module, optimizer: thalweg.AdamWScheduleFree) -> Any:
    """A checkpoint, by way of a file."""
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


model, optimizer = new()
epochs(model, optimizer, range(HALF))
in_training = saved(model, optimizer)
with optimizer.evaluation():
    in_evaluation = saved(model, optimizer)
epochs(model, optimizer, range(HALF, EPOCHS))

for name, checkpoint in {"training": in_training, "evaluation": in_evaluation}.items():
    print(f"a new model and optimizer, from a save in {name} mode")
    resumed, its_optimizer = new()
    resumed.load_state_dict(checkpoint["model"])
    its_optimizer.load_state_dict(checkpoint["optimizer"])
    its_optimizer.train()
    epochs(resumed, its_optimizer, range(HALF, EPOCHS))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))
print("both resumed to the bit")

try:
    other, its_optimizer = new()
    other.load_state_dict(in_evaluation["model"])
    its_optimizer.load_state_dict(in_training["optimizer"])
    raise AssertionError("weights and state of different modes went together")
except ValueError as error:
    print(f"refused: {error}")

thalweg.update_bn(inputs, model, optimizer)
final, _ = new()
with optimizer.evaluation():
    final.load_state_dict(model.state_dict())  # the weights to keep: the average, and its statistics
print(f"final model {accuracy(final):.1%}")
assert accuracy(final) > 0.95
