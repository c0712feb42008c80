"""Where runs train: on the machine's accelerator if it has one, else on its processor."""

import os
import time

import torch

from thalweg.lab.errors import UserError

VARIABLE = "THALWEG_DEVICE"
"""Environment variable with a device for all runs: set by ``--device`` and inherited by worker processes."""


def device() -> torch.device:
    """Return the device that is asked for, or the best there is.

    Raises:
        UserError: the one asked for is none, or is not there.
    """
    name = os.environ.get(VARIABLE)
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):  # by what is wrong: name, build or backend
        raise UserError(
            f"--device is {name!r}; it must be a device that torch finds here, such as cpu or cuda."
        ) from None
    return torch.device(name)


def use_device(name: str | None) -> None:
    """Make a device that of this process and its workers; None leaves it as it is.

    Raises:
        UserError: it is not there.
    """
    if name is not None:
        os.environ[VARIABLE] = name
        device()


def described() -> str:
    """Name the accelerator; empty on a processor, which has its own line."""
    place = device()
    return torch.cuda.get_device_name(place) if place.type == "cuda" else "" if place.type == "cpu" else str(place)


def clock(place: torch.device) -> float:
    """Return seconds of work: of the process on a processor, where others may take turns; of the wall elsewhere."""
    return time.process_time() if place.type == "cpu" else time.perf_counter()
