"""A curvature monitor in a Lightning run: sharpness against AdamW's threshold, and what it cost.

The callback probes the loss of the batch just trained on.  Its numbers go to the trainer's loggers, here to a CSV file;
`training_step`, metrics and random numbers are as they would be without it.

    python examples/curvature_lightning.py
"""

import csv
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import thalweg
from thalweg.integrations.lightning import CurvatureCallback

EPOCHS, EVERY = 15, 60

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # not what hardware it finds, nor tips
warnings.filterwarnings("ignore", ".*LeafSpec")  # Lightning 2.6 calls what torch 2.13 deprecates
warnings.filterwarnings("ignore", ".*does not have many workers")  # data in memory needs none

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 10))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self.network(images), labels)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return thalweg.AdamW(self.parameters(), lr=1e-2, weight_decay=0.05)


def fit(folder: str, callbacks: list[lightning.Callback]) -> Digits:
    torch.manual_seed(1)
    model = Digits()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        callbacks=callbacks,
        logger=CSVLogger(folder, name="", version=""),
        log_every_n_steps=20,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data, 64, shuffle=True, drop_last=True))
    return model


probe = CurvatureCallback(every=EVERY)
with TemporaryDirectory() as folder, TemporaryDirectory() as other:
    watched = fit(folder, [probe])
    alone = fit(other, [])
    rows = list(csv.DictReader(Path(folder, "metrics.csv").read_text().splitlines()))

for row in rows:
    if ratio := row["curvature/ratio"]:
        print(f"  step {row['step']:>3}  loss {float(row['curvature/loss']):.3f}  ratio {float(ratio):.3f}")
spent = sum(record.gradient_equivalents for record in probe.monitor.history)
print(f"{len(probe.monitor.history)} probes cost {spent:.0f} gradients beside the {probe.steps} of training")
same = all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
print(f"weights {'equal' if same else 'differ from'} those of a run without the monitor")
assert same
assert sum(bool(row["curvature/ratio"]) for row in rows) == len(probe.monitor.history)
