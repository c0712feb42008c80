"""Train on scikit-learn's handwritten digits with Lightning, two batches to a step; resume bit for bit.

`configure_optimizers` returns a thalweg optimizer and its schedule; Lightning hands each step a closure that computes the
gradients.  `clip` acts inside the step, on the gradient of both batches, in place of Lightning's `gradient_clip_val`.

    python examples/lightning_module.py
"""

import logging
import warnings
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import thalweg

EPOCHS, HALF, BATCH, ACCUMULATE = 20, 10, 32, 2

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # not what hardware it finds, nor tips
warnings.filterwarnings("ignore", ".*LeafSpec")  # Lightning 2.6 calls what torch 2.13 deprecates
warnings.filterwarnings("ignore", ".*does not have many workers")  # data in memory needs none
warnings.filterwarnings("ignore", "Checkpoint directory .* is not empty")  # it is resumed from

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
order = torch.randperm(len(x))
train, test = order[:1408], order[1408:]
steps_per_epoch = len(train) // (BATCH * ACCUMULATE)


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch: list[Tensor]) -> Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self.network(images), labels)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = thalweg.AdamW(self.parameters(), lr=1e-2, weight_decay=0.05, clip=1.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=EPOCHS * steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Watch(lightning.Callback):
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch, optimizer = trainer.current_epoch + 1, trainer.optimizers[0]
        assert {int(s["step"]) for s in optimizer.state.values()} == {epoch * steps_per_epoch}  # after a resume too
        if epoch % 5 == 0:
            lr, loss = optimizer.param_groups[0]["lr"], trainer.callback_metrics["loss"].item()
            print(f"  epoch {epoch:2}  lr {lr:.1e}  training loss {loss:.4f}")


def fit(model: Digits, folder: str, checkpoint: str | None = None) -> None:
    data = TensorDataset(x[train], y[train])
    # Lightning's checkpoints hold no state of random numbers; the order of this sampler follows from the epoch alone.
    loader = DataLoader(data, BATCH, sampler=DistributedSampler(data, num_replicas=1, rank=0))
    keep = ModelCheckpoint(folder, "{epoch}", every_n_epochs=HALF, save_top_k=-1)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        accumulate_grad_batches=ACCUMULATE,
        callbacks=[keep, Watch()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader, ckpt_path=checkpoint)


with TemporaryDirectory() as folder:
    print("from the start")
    fit(straight := Digits(), folder)
    print(f"a new model and optimizer, from the checkpoint after epoch {HALF}")
    fit(resumed := Digits(), folder, checkpoint=f"{folder}/epoch={HALF - 1}.ckpt")

accuracy = (straight.network(x[test]).argmax(1) == y[test]).float().mean().item()
same = all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
print(f"test accuracy {accuracy:.1%}; resumed weights {'equal' if same else 'differ'}")
assert accuracy > 0.95
assert same
