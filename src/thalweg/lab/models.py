"""The networks of the embedded tasks, in plain torch.

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
