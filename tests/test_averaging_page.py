"""The Lightning callback that docs/averaging.md prints: which weights are trained, validated, saved and left."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import thalweg

lightning = pytest.importorskip("lightning")

PAGE = Path(__file__).parent.parent / "docs" / "averaging.md"


def callback() -> Any:
    section = PAGE.read_text(encoding="utf-8").split("\n## Lightning\n")[1]
    names: dict[str, Any] = {}
    exec(section.split("```python\n")[1].split("```")[0], names)
    return names["EvaluateAverage"]()


class Regression(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Linear(4, 1)
        self.optimizer = thalweg.AdamWScheduleFree(self.network.named_parameters(), lr=0.1)
        self.modes: list[tuple[str, bool]] = []

    def note(self, what: str) -> None:
        self.modes.append((what, self.optimizer.param_groups[0]["train_mode"]))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        self.note("training")
        return (self.network(batch[0]) - batch[1]).square().mean()

    def validation_step(self, batch: list[Tensor]) -> None:
        self.note("validation")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.note("save")

    def configure_optimizers(self) -> Any:
        return self.optimizer


def fit(folder: Path, validates: bool, checkpoint: Path | None = None) -> Regression:
    x = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
    loader: Any = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
    keep = lightning.pytorch.callbacks.ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=4,
        callbacks=[keep, callback()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model := Regression(), loader, loader if validates else None, ckpt_path=checkpoint)
    return model


@pytest.mark.filterwarnings("ignore")  # Lightning's own
@pytest.mark.parametrize("validates", [True, False])
def test_lightning_trains_one_set_of_weights_and_keeps_the_other(tmp_path: Path, validates: bool) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    straight = fit(tmp_path / "a", validates)
    expected = {("training", True), ("save", False)} | ({("validation", False)} if validates else set())
    assert set(straight.modes) == expected
    assert not straight.optimizer.param_groups[0]["train_mode"]
    resumed = fit(tmp_path / "b", validates, tmp_path / "a" / "epoch=1.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
