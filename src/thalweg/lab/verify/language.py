"""nanoGPT's configuration for a CPU on tiny Shakespeare: characters, 4 layers of 128, 2,000 steps of 12 × 64."""

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

import thalweg
from thalweg.lab.models import GPT
from thalweg.lab.tasks.files import Layout, data_folder
from thalweg.lab.tasks.text import cross_entropy, encode, numbered, random_windows, windows
from thalweg.lab.verify.references import Measurement

TEXT = Layout("tiny Shakespeare", "tinyshakespeare", "input.txt", ("input.txt",))
CONTEXT, BATCH, LAYERS, HEADS, WIDTH = 64, 12, 4, 4, 128
LR, LOWEST_LR, WARMUP, DECAY, BETAS, CLIP = 1e-3, 1e-4, 100, 0.1, (0.9, 0.99), 1.0
SEED, EVERY, AT_ONCE, STD = 1337, 250, 256, 0.02


def validation_loss(steps: int) -> Measurement:
    """Loss on all of the validation text after the last step; lowest and highest probe of the last quarter of the run.

    Raises:
        UserError: the text is not in the data folder.
    """
    text = (TEXT.find(data_folder()) / "input.txt").read_text(encoding="utf-8")
    alphabet = numbered(text)
    tokens = encode(text, alphabet)
    train, validation = tokens[: int(0.9 * len(tokens))], tokens[int(0.9 * len(tokens)) :]
    torch.manual_seed(SEED)
    model = network(len(alphabet))
    rule = optimizer(model)
    batches = random_windows(train, CONTEXT)(torch.Generator().manual_seed(SEED), BATCH)
    trace: dict[str, list[float]] = {"step": [], "loss": []}
    for step in range(steps):
        for group in rule.param_groups:
            group["lr"] = learning_rate(step, steps)
        inputs, targets = next(batches)
        rule.zero_grad()
        cast(Any, cross_entropy(model(inputs), targets)).backward()
        rule.step()
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            trace["step"].append(step + 1)
            trace["loss"].append(evaluated(model, validation))
    late = [loss for step, loss in zip(trace["step"], trace["loss"], strict=True) if step >= 0.75 * steps]
    return Measurement(trace["loss"][-1], min(late), max(late), trace)


def network(vocabulary: int) -> GPT:
    """nanoGPT's form of the lab's GPT: no biases; weights N(0, .02²), those that write into the residual path ÷ √(2 layers)."""
    model = GPT(vocabulary, CONTEXT, WIDTH, HEADS, LAYERS)
    for name, module in cast(Iterator[tuple[str, nn.Module]], model.named_modules()):
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.register_parameter("bias", None)
        if isinstance(module, nn.Linear | nn.Embedding):
            into_residual = name.endswith((".out", ".mlp.2"))
            nn.init.normal_(module.weight, std=STD / math.sqrt(2 * LAYERS) if into_residual else STD)
    nn.init.normal_(model.positions, std=STD)
    return model


def optimizer(model: GPT) -> torch.optim.Optimizer:
    """AdamW with decay on matrices alone, gradients clipped by their global norm."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return thalweg.AdamW(groups, lr=LR, betas=BETAS, clip=CLIP)


def learning_rate(step: int, steps: int) -> float:
    """η linear from 0 over the warm-up, then half a cosine down to the lowest."""
    if step < WARMUP:
        return LR * step / WARMUP
    return LOWEST_LR + 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (steps - WARMUP))) * (LR - LOWEST_LR)


@torch.no_grad()
def evaluated(model: GPT, tokens: Tensor) -> float:
    """Mean loss over all windows that do not overlap."""
    starts = torch.arange(0, len(tokens) - CONTEXT, CONTEXT)
    total = 0.0
    for first in range(0, len(starts), AT_ONCE):
        inputs, targets = windows(tokens, starts[first : first + AT_ONCE], CONTEXT)
        total += cross_entropy(model(inputs), targets).item() * len(inputs)
    return total / len(starts)
