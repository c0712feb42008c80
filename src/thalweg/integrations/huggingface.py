"""A curvature monitor as a callback of transformers' Trainer."""

from __future__ import annotations

from itertools import islice
from typing import Any, cast

from accelerate.utils import send_to_device  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback

from thalweg.curvature.followed import unwrapped
from thalweg.curvature.logs import numbers
from thalweg.curvature.monitor import CurvatureMonitor, CurvatureRecord
from thalweg.curvature.quiet import RandomNumbers

STATE = "thalweg.curvature"


class CurvatureCallback(TrainerCallback):
    """Probes the curvature of the Trainer's loss on one batch, the same all the time, and logs it as the Trainer logs.

    ``trainer.add_callback(CurvatureCallback(trainer, every=100))``.  The loss is that of ``trainer.compute_loss``.  The records
    go where the Trainer's own numbers go, ``curvature/sharpness`` and so on; a resumed run keeps the cadence.

    Args:
        trainer: the Trainer that it is added to.
        batch: what ``compute_loss`` takes as inputs.  None: the first examples of the training set, as many as a batch of
            training has on a device, collated as they are in training.
        options: those of ``CurvatureMonitor``: ``every``, ``budget``, ``k``, ``raw``, …

    Attributes:
        monitor: the monitor, from the start of training on; ``monitor.history`` holds its records.

    Raises:
        ValueError: when training starts, if there is no batch and the training set has no first examples.
    """

    monitor: CurvatureMonitor

    def __init__(self, trainer: Trainer, batch: Any = None, **options: Any) -> None:
        self.trainer: Any = trainer
        self.batch, self.options = batch, options

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make the monitor."""
        batch = (
            first_batch(kwargs["train_dataloader"], args.per_device_train_batch_size)
            if self.batch is None
            else self.batch
        )
        inputs = cast(Any, send_to_device(batch, args.device))

        def loss_fn() -> Tensor:
            return self.trainer.compute_loss(self.trainer.model_wrapped, dict(inputs))

        self.monitor = CurvatureMonitor(kwargs["model"], unwrapped(kwargs["optimizer"]), loss_fn, **self.options)
        self.monitor.logs.append(self.log)
        self.monitor.cadence.begin(state.global_step)
        if STATE in state.stateful_callbacks:
            self.monitor.load_state_dict(state.stateful_callbacks[STATE])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the optimizer's step; the Trainer saves what is in its state."""
        self.monitor.step()
        state.stateful_callbacks[STATE] = self.monitor.state_dict()

    def log(self, record: CurvatureRecord) -> None:
        """As the Trainer logs, which takes the step's own log for written then."""
        own = self.trainer.control.should_log
        self.trainer.log(numbers(record))
        self.trainer.control.should_log = own


def first_batch(loader: Any, size: int) -> Any:
    """The first examples of a loader's data set, collated; the random numbers of training are not touched."""
    data = loader.dataset
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise ValueError(
            "CurvatureCallback: the training set cannot be read by index; pass batch=, inputs to probe the loss with."
        )
    before = RandomNumbers.everywhere()
    try:
        return loader.collate_fn([data[i] for i in islice(range(len(data)), size)])
    finally:
        before.restore()
