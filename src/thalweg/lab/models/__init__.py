"""The networks of the tasks, in plain torch.

Each builder draws its weights from torch's global generator; `Task.model` seeds it, so that every optimizer of one seed
starts from the same point.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mlp(widths: list[int], activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Build a fully connected network, ``widths[0]`` inputs to ``widths[-1]`` outputs, activations in between."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def cnn(classes: int) -> nn.Sequential:
    """Build a two-layer convolutional classifier of (B, 1, 8, 8) images."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def image_cnn(width: int, hidden: int, classes: int) -> nn.Sequential:
    """Build a classifier of (B, 1, 28, 28) images: two 5 × 5 convolutions with pooling, two fully connected layers.

    Source: the test problem 2c2d of Schneider et al. 2019, arXiv:1903.05499 (width 32, hidden 1024), in torch's initialization.
    """
    return nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *mlp([7 * 7 * 2 * width, hidden, classes]),
    )


def signal_cnn(length: int, classes: int, channels: int = 25) -> nn.Sequential:
    """Build a three-layer convolutional classifier of (B, length) signals, that of MNIST-1D's authors.  arXiv:2011.14439"""
    sizes = [5, 3, 3]
    layers: list[nn.Module] = [nn.Unflatten(1, (1, length))]
    for inputs, size in zip([1, channels, channels], sizes, strict=True):
        layers += [nn.Conv1d(inputs, channels, size, stride=2, padding=1), nn.ReLU()]
        length = (length + 2 - size) // 2 + 1
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(length * channels, classes))


def deep_autoencoder(widths: list[int]) -> nn.Sequential:
    """Build a mirrored sigmoid autoencoder, hard to train because the gradient fades layer by layer.

    Weights are Glorot-uniform with gain 4, which keeps the variance of a sigmoid layer's signal (Glorot & Bengio 2010,
    eq. 16 and its note on the sigmoid); torch's default leaves every optimizer on the first plateau.
    """
    network = mlp(widths + widths[-2::-1], nn.Sigmoid)
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=4.0)
            nn.init.zeros_(layer.bias)
    return network


class Block(nn.Module):
    """One pre-norm transformer layer: causal attention, then a GELU network four times as wide."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = mlp([width, 4 * width, width], nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, width)."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm_attention(x)).chunk(3, -1)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))


class GPT(nn.Module):
    """A small GPT with learned positions and an output layer tied to the embedding (Radford et al. 2019)."""

    def __init__(self, vocabulary: int, context: int, width: int, heads: int, layers: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(context, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token numbers (B, T) to logits (B, T, vocabulary)."""
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        return self.norm(self.blocks(x)) @ self.tokens.weight.T


class WordLSTM(nn.Module):
    """A language model: embedding, LSTM from a zero state, output layer; all weights uniform in ±0.1.

    Source: the small model of Zaremba et al. 2014, arXiv:1409.2329, sect. 4.1.
    """

    def __init__(self, vocabulary: int, width: int, layers: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.out = nn.Linear(width, vocabulary)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token numbers (B, T) to logits (B, T, vocabulary)."""
        return self.out(self.lstm(self.tokens(tokens))[0])


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Build a convolution without bias that keeps the image's size at stride 1, and its batch normalisation."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """relu(x + f(x)), f two 3 × 3 convolutions; x goes through a 1 × 1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.branch = nn.Sequential(
            convolution(inputs, outputs, 3, stride), nn.ReLU(), convolution(outputs, outputs, 3)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return F.relu(self.shortcut(x) + self.branch(x))


def resnet18(width: int, classes: int) -> nn.Sequential:
    """Build the ResNet-18 of (B, 3, 32, 32) images: a 3 × 3 stem without pooling, four stages of `width` to 8 × `width`.

    Source: He et al. 2015, arXiv:1512.03385, table 1 (18 layers, width 64) and sect. 4.2 (the stem).
    """
    layers: list[nn.Module] = [convolution(3, width, 3), nn.ReLU()]
    for inputs, outputs, stride in [(1, 1, 1), (1, 2, 2), (2, 4, 2), (4, 8, 2)]:
        layers += [Residual(inputs * width, outputs * width, stride), Residual(outputs * width, outputs * width, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes))
