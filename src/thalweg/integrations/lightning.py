"""A curvature monitor as a callback of Lightning."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.signature_utils import (
    is_param_in_hook_signature,  # pyright: ignore[reportUnknownVariableType]
)
from torch import Tensor
from torchmetrics import Metric

from thalweg.curvature.logs import numbers
from thalweg.curvature.monitor import CurvatureMonitor, CurvatureRecord


class CurvatureCallback(Callback):
    """Probes the curvature of the training loss at the batch just trained on, and logs it with the trainer's loggers.

    ``training_step`` is called once more for each probe: what it logs then is dropped, and the module's metrics keep their
    state.  What else it changes of its own, as a list that it appends to, it changes for the probe as well.

    Args:
        options: those of ``CurvatureMonitor``: ``every`` (in steps of the optimizer), ``budget``, ``k``, ``raw``, …

    Attributes:
        monitor: the monitor, from the start of training on; ``monitor.history`` holds its records.

    Raises:
        ValueError: when training starts, with manual optimization or with several optimizers.
    """

    monitor: CurvatureMonitor

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.state: dict[str, float] = {}
        self.steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the monitor."""
        if not pl_module.automatic_optimization or len(trainer.optimizers) != 1:
            raise ValueError(
                "CurvatureCallback needs automatic optimization with one optimizer;"
                " with manual optimization call a thalweg.CurvatureMonitor in training_step."
            )
        self.monitor = CurvatureMonitor(pl_module, trainer.optimizers[0], **self.options)
        self.monitor.logs.append(partial(log, trainer))
        self.monitor.cadence.begin(trainer.global_step)
        if self.state:
            self.monitor.load_state_dict(self.state)
        self.steps = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the optimizer's step, if this batch ended one."""
        if trainer.global_step > self.steps:
            self.steps = trainer.global_step
            self.monitor.step(lambda: training_loss(trainer, pl_module, batch, batch_idx))

    def state_dict(self) -> dict[str, Any]:
        """The cadence, for a checkpoint."""
        return dict(self.monitor.state_dict()) if hasattr(self, "monitor") else self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until training starts."""
        self.state = state_dict


def log(trainer: Trainer, record: CurvatureRecord) -> None:
    """To all loggers, at the trainer's step; not through ``log``, which would wait for its next ``log_every_n_steps``."""
    for logger in trainer.loggers:
        logger.log_metrics(numbers(record), step=trainer.global_step)


def training_loss(trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> Tensor:
    """The loss of a batch, by the way Lightning takes, through its strategy's wrappers, without what it logs."""
    takes_index = is_param_in_hook_signature(pl_module.training_step, "batch_idx", min_args=2)
    with unlogged(pl_module):
        output: Any = trainer.strategy.training_step(*(batch, batch_idx) if takes_index else (batch,))
    return output["loss"] if isinstance(output, dict) else output  # pyright: ignore[reportUnknownVariableType]


@contextmanager
def unlogged(pl_module: LightningModule) -> Generator[None]:
    """Within it, the module logs nothing, and its metrics are put back as they were."""
    metrics = [module for module in pl_module.modules() if isinstance(module, Metric)]
    kept = [{name: copied(value) for name, value in vars(metric).items()} for metric in metrics]
    with ExitStack() as stack:
        for name in ("log", "log_dict"):
            stack.enter_context(patch.object(pl_module, name, nothing))
        try:
            yield
        finally:
            for metric, were in zip(metrics, kept, strict=True):
                vars(metric).clear()
                vars(metric).update(were)


def copied(value: Any) -> Any:
    """A metric's attribute, safe from updates in place: its state are tensors, and lists of them."""
    if isinstance(value, Tensor):
        return value.clone()
    return list(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def nothing(*args: Any, **kwargs: Any) -> None:
    """What logging does meanwhile."""
