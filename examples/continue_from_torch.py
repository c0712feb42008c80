"""A run of torch's AdamW, continued by ours and then by torch's again: the loss curve stays the same to rounding.

A small GPT learns the Zen of Python.  Its checkpoint, model, optimizer and schedule, passes from one class to the other in
a file; nothing else in the training loop knows which of the two it is.

    python examples/continue_from_torch.py
"""

from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

import thalweg

PHASES, LENGTH, BATCH, WIDTH = (100, 200, 300), 32, 16, 64

with redirect_stdout(StringIO()) as zen:
    import_module("this")  # prints it
windows = torch.tensor(list(zen.getvalue().encode())).unfold(0, LENGTH + 1, 1)


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(128, WIDTH), nn.Embedding(LENGTH, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 128, bias=False)
        self.mask: Tensor
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, text: Tensor) -> Tensor:
        x = self.letters(text) + self.places.weight
        return self.head(self.blocks(x, self.mask, is_causal=True))


def phase(AdamW: Any, checkpoint: Path, until: int) -> list[float]:
    """Train up to step ``until``, from the checkpoint if there is one, and leave one behind."""
    torch.manual_seed(0)
    model = GPT()
    decayed, others = ([p for p in model.parameters() if (p.ndim > 1) is flag] for flag in (True, False))
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=PHASES[-1])
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])

    losses: list[float] = []
    for step in range(schedule.last_epoch, until):
        batch = windows[torch.randint(len(windows), (BATCH,), generator=torch.Generator().manual_seed(step))]
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)
    return losses


def curve(*classes: Any) -> list[float]:
    """The losses of a run whose phases are trained by these classes, one after another."""
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        return [loss for made, until in zip(classes, PHASES, strict=True) for loss in phase(made, checkpoint, until)]


torchs = curve(torch.optim.AdamW, torch.optim.AdamW, torch.optim.AdamW)
passed = curve(torch.optim.AdamW, thalweg.AdamW, torch.optim.AdamW)

print("step  torch.optim    torch, thalweg, torch")
for step in range(50, PHASES[-1] + 1, 50):
    optimizer = "thalweg" if PHASES[0] < step <= PHASES[1] else "torch"
    print(f"{step:4}  {torchs[step - 1]:.8f}     {passed[step - 1]:.8f}  {optimizer}")
furthest = max(abs(a - b) / a for a, b in zip(torchs, passed, strict=True))
print(f"the losses differ by at most {furthest:.1e} of their value")
assert torchs[: PHASES[0]] == passed[: PHASES[0]]  # the same program so far
assert furthest < 1e-5
