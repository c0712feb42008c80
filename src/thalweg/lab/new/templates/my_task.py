"""A task of my own: tell two spirals apart.  Run it: thalweg compare my_task.py -o adamw,momentum --trials 2 --seeds 3"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.lab.tasks import Metric, Task
from thalweg.lab.tasks.task import accuracy, epochs, hash_tensors

ROWS = 1200


def data() -> tuple[Tensor, Tensor]:
    """Make points (N, 2) and labels (N,). Always the same: every run, on every machine, must see the same data."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(ROWS) % 2
    angle = 9 * torch.rand(ROWS, generator=draw).sqrt()
    arm = angle + torch.pi * labels
    points = torch.stack([angle * arm.cos(), angle * arm.sin()], 1) / 5
    return points + 0.05 * torch.randn(ROWS, 2, generator=draw), labels


def build() -> nn.Module:
    """Make the network, from torch's global generator: the lab seeds it, the same for every optimizer."""
    return nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))


def task() -> Task:
    """Put it together; `thalweg.lab.tasks.Task` says what each part means."""
    points, labels = data()
    train, validation, test = (
        (points[part], labels[part]) for part in (slice(0, 800), slice(800, 1000), slice(1000, None))
    )
    return Task(
        name="my_task",  # the lab takes the name of the file
        summary="tell two spirals apart, MLP 2-32-32-2",
        build=build,
        sample=epochs(*train),  # (generator, batch size) → endless batches: draw from that generator alone
        loss=F.cross_entropy,  # (outputs, targets) → mean loss
        metric=Metric("accuracy", "%", "max", margin=1.0, measure=accuracy),  # margin: differences below it are ties
        probe=train,  # what curvature is measured on
        validation=validation,  # chooses the learning rate
        test=test,  # read once, at the end
        batch_size=50,
        budget=500,  # gradients of a run
        data_hash=hash_tensors(points, labels),
    )
