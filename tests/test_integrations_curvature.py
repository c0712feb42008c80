"""The curvature callbacks of Lightning and of transformers: training as without them, and the numbers of a plain monitor."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg.curvature import CurvatureRecord, hessian

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:.*logging interval"),
]
x = torch.randn(24, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).float()
y = torch.randint(3, (24,), generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def _single_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(torch.float64)


def largest(model: nn.Module, loss_fn: Any) -> float:
    H = hessian(loss_fn, model)
    return torch.linalg.eigvalsh(torch.stack([H.matvec(row) for row in torch.eye(H.shape[0])]))[-1].item()


# Lightning.

lightning = pytest.importorskip("lightning.pytorch")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def digits(**changes: Any) -> Any:
    from torchmetrics.classification import MulticlassAccuracy

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 3)
            )
            self.accuracy = MulticlassAccuracy(3, average="micro")
            self.logged: list[float] = []

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            logits = self.network(batch[0])
            loss = F.cross_entropy(logits, batch[1])
            self.accuracy(logits, batch[1])
            self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
            self.log_dict({"loss": loss}, on_step=False, on_epoch=True)
            return {"loss": loss}

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    model = Classifier()
    for name, value in changes.items():
        setattr(model, name, value)
    return model


class Recorder(lightning.loggers.Logger):
    """Keeps what is logged."""

    name, version = "recorder", 0

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.seen.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...


def fit(model: Any, folder: Path, callbacks: list[Any], epochs: int = 3, ckpt: Any = None, **options: Any) -> Any:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"logger": False, "enable_checkpointing": False} | options,
    )
    torch.manual_seed(3)
    trainer.fit(model, DataLoader(TensorDataset(x, y), 6, shuffle=True), ckpt_path=ckpt)
    return trainer


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning_trains_as_without_it(tmp_path: Path, accumulate: int) -> None:
    from thalweg.integrations.lightning import CurvatureCallback

    probe = CurvatureCallback(every=2, k=2, on_error="raise")
    with_it, without = digits(), digits()
    probed = fit(with_it, tmp_path, [probe], accumulate_grad_batches=accumulate)
    plain = fit(without, tmp_path, [], accumulate_grad_batches=accumulate)
    assert [r.step for r in probe.monitor.history] == list(range(1, 12 // accumulate + 1, 2))
    states = zip(with_it.state_dict().values(), without.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)
    assert probed.callback_metrics.keys() == plain.callback_metrics.keys()
    for name, value in plain.callback_metrics.items():
        assert torch.equal(probed.callback_metrics[name], value), name


def test_lightning_probes_the_batch_and_logs_at_its_step(tmp_path: Path) -> None:
    from thalweg.integrations.lightning import CurvatureCallback

    found: list[tuple[float, CurvatureRecord]] = []

    class Check(CurvatureCallback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            exact = largest(pl_module.network, lambda: F.cross_entropy(pl_module.network(batch[0]), batch[1]))
            found.append((exact, self.monitor.history[-1]))

    recorder = Recorder()
    model = digits()
    model.network[3] = nn.Identity()
    fit(model, tmp_path, [Check(every=1, tol=1e-4, on_error="raise")], logger=recorder, log_every_n_steps=50)
    assert len(found) == 12
    for exact, record in found:
        assert record.sharpness == pytest.approx(exact, rel=1e-3)
        assert record.threshold == pytest.approx(3.8 / 0.1)
    curvature = [(step, m) for step, m in recorder.seen if "curvature/ratio" in m]
    assert [(step, m["curvature/ratio"]) for step, m in curvature] == [(r.step, r.ratio) for _, r in found]


def test_lightning_continues_the_cadence(tmp_path: Path) -> None:
    from thalweg.integrations.lightning import CurvatureCallback

    def probe() -> CurvatureCallback:
        return CurvatureCallback(every=5, on_error="raise")

    first, second = probe(), probe()
    fit(digits(), tmp_path, [first], epochs=2).save_checkpoint(tmp_path / "half.ckpt")
    fit(digits(), tmp_path, [second], epochs=5, ckpt=tmp_path / "half.ckpt")
    assert [r.step for r in first.monitor.history] == [1, 6]
    assert [r.step for r in second.monitor.history] == [11, 16]


def test_lightning_refuses_manual_optimization(tmp_path: Path) -> None:
    from thalweg.integrations.lightning import CurvatureCallback

    with pytest.raises(ValueError, match="needs automatic optimization with one optimizer"):
        fit(digits(automatic_optimization=False), tmp_path, [CurvatureCallback()])


# transformers.

transformers = pytest.importorskip("transformers")


class Examples(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Random tokens."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        tokens = torch.randint(16, (8,), generator=torch.Generator().manual_seed(i))
        return {"input_ids": tokens, "labels": tokens}


def small_gpt() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def hf_trainer(folder: Path, data: Any = None, steps: int = 8, logging_steps: int = 2, **arguments: Any) -> Any:
    args = transformers.TrainingArguments(
        str(folder), max_steps=steps, per_device_train_batch_size=4, learning_rate=1e-2, lr_scheduler_type="constant",
        logging_steps=logging_steps, disable_tqdm=True, use_cpu=True, report_to=[], **arguments,
    )  # fmt: skip
    trainer = transformers.Trainer(small_gpt(), args, train_dataset=Examples() if data is None else data)
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


@pytest.mark.parametrize("arguments", [{}, {"gradient_accumulation_steps": 2, "bf16": True}], ids=["plain", "bf16"])
def test_trainer_trains_as_without_it(tmp_path: Path, arguments: dict[str, Any]) -> None:
    from thalweg.integrations.huggingface import CurvatureCallback

    probed, plain = hf_trainer(tmp_path, **arguments), hf_trainer(tmp_path, **arguments)
    probe = CurvatureCallback(probed, every=3, k=2, on_error="raise")
    probed.add_callback(probe)
    for trainer in (probed, plain):
        torch.manual_seed(3)  # of the dropout masks
        trainer.train()
    assert [r.step for r in probe.monitor.history] == [1, 4, 7]
    states = zip(probed.model.state_dict().values(), plain.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)
    losses = [[(e["step"], e["loss"]) for e in t.state.log_history if "loss" in e] for t in (probed, plain)]
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == [2, 4, 6, 8]
    logged = [e for e in probed.state.log_history if "curvature/ratio" in e]
    assert [(e["step"], e["curvature/ratio"]) for e in logged] == [(r.step, r.ratio) for r in probe.monitor.history]


def test_trainer_probes_its_own_loss_on_the_first_examples(tmp_path: Path) -> None:
    from thalweg.integrations.huggingface import CurvatureCallback

    trainer = hf_trainer(tmp_path, steps=1, label_smoothing_factor=0.1, optim="sgd")
    probe = CurvatureCallback(trainer, every=1, on_error="raise")
    losses: list[float] = []

    class Check(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            batch = [Examples()[i] for i in range(4)]
            inputs = {name: torch.stack([e[name] for e in batch]) for name in batch[0]}
            losses.append(trainer.compute_loss(kwargs["model"].eval(), dict(inputs)).item())
            probe.monitor.step()
            kwargs["model"].train()

    trainer.add_callback(probe)
    trainer.add_callback(Check())
    trainer.train()
    assert probe.monitor.history[1].loss == pytest.approx(losses[0], rel=1e-5)


def test_trainer_resumes_the_cadence(tmp_path: Path) -> None:
    from thalweg.integrations.huggingface import CurvatureCallback

    first = hf_trainer(tmp_path, steps=6, save_steps=6)
    first.add_callback(CurvatureCallback(first, every=5, on_error="raise"))
    first.train()
    saved = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())
    assert saved["stateful_callbacks"]["thalweg.curvature"]["steps"] == 6
    second = hf_trainer(tmp_path, steps=12)
    probe = CurvatureCallback(second, every=5, on_error="raise")
    second.add_callback(probe)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert [r.step for r in probe.monitor.history] == [11]
    # A run that had no monitor until then.
    del saved["stateful_callbacks"]["thalweg.curvature"]
    (tmp_path / "checkpoint-6" / "trainer_state.json").write_text(json.dumps(saved))
    third = hf_trainer(tmp_path, steps=9)
    probe = CurvatureCallback(third, every=2, on_error="raise")
    third.add_callback(probe)
    third.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert [r.step for r in probe.monitor.history] == [7, 9]


def test_trainer_with_a_stream_of_data_needs_a_batch(tmp_path: Path) -> None:
    from thalweg.integrations.huggingface import CurvatureCallback

    class Stream(torch.utils.data.IterableDataset[dict[str, Tensor]]):
        def __iter__(self) -> Iterator[dict[str, Tensor]]:
            return (Examples()[i] for i in range(16))

    trainer = hf_trainer(tmp_path, Stream(), steps=2)
    trainer.add_callback(CurvatureCallback(trainer))
    with pytest.raises(ValueError, match=r"cannot be read by index; pass batch="):
        trainer.train()
    trainer = hf_trainer(tmp_path, Stream(), steps=2)
    tokens = torch.arange(8)[None]
    probe = CurvatureCallback(trainer, batch={"input_ids": tokens, "labels": tokens}, on_error="raise")
    trainer.add_callback(probe)
    trainer.train()
    assert len(probe.monitor.history) == 1
