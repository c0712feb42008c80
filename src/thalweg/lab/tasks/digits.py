"""Five tasks on scikit-learn's handwritten digits: 1,797 images of 8 × 8 pixels, part of the library (no download)."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.lab.models import cnn, deep_autoencoder, mlp
from thalweg.lab.tasks.task import Metric, Splits, Task, accuracy, epochs, hash_tensors
from thalweg.lab.untyped import untyped

BATCH, FULL_BATCH = 32, 500


@cache
def digits() -> Splits:
    """Read and split the digits, once a process, by a fixed shuffle.

    Images (N, 64) in [0, 1] and labels (N,) of the three splits: 1,077, 360 and 360 rows.
    """
    pixels, numbers = untyped("sklearn.datasets").load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    images = (torch.as_tensor(pixels, dtype=torch.float32) / 16)[order]
    labels = torch.as_tensor(numbers, dtype=torch.int64)[order]
    ends = [0, len(images) - 720, len(images) - 360, len(images)]
    return Splits(*((images[start:end], labels[start:end]) for start, end in pairwise(ends)))


def squared_error(outputs: Tensor, images: Tensor) -> Tensor:
    """Squared error summed over an image's pixels, (N,)."""
    return (outputs - images).square().sum(-1)


ACCURACY = Metric("accuracy", "%", "max", margin=0.5, measure=accuracy)


def half_squared_errors(outputs: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance from the one-hot vector of the label, (N,)."""
    return 0.5 * (outputs - F.one_hot(labels, outputs.shape[-1])).square().sum(-1)


def half_squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """The same, mean over the rows."""
    return half_squared_errors(outputs, labels).mean()


def mlp_task() -> Task:
    """Classify the digits by a fully connected network."""
    return _mlp_task("digits-mlp", "classify 8×8 digits, MLP 64-64-32-10", F.cross_entropy)


def mlp_mse_task() -> Task:
    """The same, trained with the squared error, whose curvature stays as the loss falls."""
    return _mlp_task("digits-mlp-mse", "classify 8×8 digits by squared error, MLP 64-64-32-10", half_squared_error)


def _mlp_task(name: str, summary: str, loss: Callable[[Tensor, Tensor], Tensor]) -> Task:
    data = digits()
    return Task(
        name=name,
        summary=summary,
        build=lambda: mlp([64, 64, 32, 10]),
        sample=epochs(*data.train),
        loss=loss,
        metric=ACCURACY,
        probe=data.train,
        validation=data.validation,
        test=data.test,
        batch_size=BATCH,
        budget=300,
        data_hash=hash_tensors(*data.train, *data.validation, *data.test),
    )


def edge_task() -> Task:
    """Fit 500 digits in full batches: the sharpness rises to the optimizer's threshold and stays there.

    A tanh network and the squared error, as Cohen et al. 2021, arXiv:2103.00065, sect. 3 and appendix I, take them; it is
    small enough that a run takes a second.
    """
    data = digits()
    train = data.train[0][:FULL_BATCH], data.train[1][:FULL_BATCH]
    return Task(
        name="eos-mlp",
        summary=f"fit {FULL_BATCH} digits by squared error in full batches, tanh MLP 64-64-64-10",
        build=lambda: mlp([64, 64, 64, 10], nn.Tanh),
        sample=epochs(*train),
        loss=half_squared_error,
        metric=Metric("half squared error", "per image", "min", margin=0.005, measure=half_squared_errors),
        probe=train,
        validation=data.validation,
        test=data.test,
        batch_size=FULL_BATCH,
        budget=600,
        data_hash=hash_tensors(*train, *data.validation, *data.test),
    )


def cnn_task() -> Task:
    """Classify the digits by a small convolutional network."""
    train, validation, test = ((images.reshape(-1, 1, 8, 8), labels) for images, labels in digits())
    return Task(
        name="digits-cnn",
        summary="classify 8×8 digits, two convolutions",
        build=lambda: cnn(classes=10),
        sample=epochs(*train),
        loss=F.cross_entropy,
        metric=ACCURACY,
        probe=train,
        validation=validation,
        test=test,
        batch_size=BATCH,
        budget=300,
        data_hash=hash_tensors(*train, *validation, *test),
    )


def autoencoder_task() -> Task:
    """Reconstruct the digits through six sigmoid layers and a bottleneck of 8."""
    train, validation, test = ((images, images) for images, _ in digits())
    return Task(
        name="digits-autoencoder",
        summary="reconstruct 8×8 digits, sigmoid autoencoder 64-32-16-8-16-32-64",
        build=lambda: deep_autoencoder([64, 32, 16, 8]),
        sample=epochs(*train),
        loss=lambda outputs, images: squared_error(outputs, images).mean(),
        metric=Metric("squared error", "per image", "min", margin=0.05, measure=squared_error),
        probe=train,
        validation=validation,
        test=test,
        batch_size=BATCH,
        budget=600,
        data_hash=hash_tensors(train[0], validation[0], test[0]),
    )
