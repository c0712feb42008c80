"""A finished study whose runs nobody trained: to look at what is made of results that are known."""

from collections.abc import Callable
from pathlib import Path

from thalweg.lab.contract import Contract
from thalweg.lab.environment import environment
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.store import Store
from thalweg.lab.study import ready

UNTRAINED = 10.0
"""Validation loss of every run at step 0."""


def ended(loss: float, value: float, highest: float = UNTRAINED, state: str = "ok") -> tuple[Result, CurvePoint]:
    """A result and the last point of its curve."""
    ok = state == "ok"
    result = Result(
        state=state,  # pyright: ignore[reportArgumentType]
        value=value if ok else None,
        loss=loss if ok else None,
        highest=highest,
        steps=100,
        charged=100,
        seconds=1.0,
    )
    last = CurvePoint(step=100, charged=100, seconds=1, lr=0, train_loss=loss, validation_loss=loss, validation=value)
    return result, last


def made_up(folder: Path, contract: Contract, end: Callable[[RunConfig], tuple[Result, CurvePoint]]) -> Store:
    """Store a study whose runs end as they are told to."""
    store = Store.create(folder, contract)
    store.extend()
    while configs := ready(contract, store.finished()):
        for config in configs:
            run = store.run(config)
            run.begin(config, environment())
            run.add(
                CurvePoint(
                    step=0, charged=0, seconds=0, lr=0, train_loss=None, validation_loss=UNTRAINED, validation=UNTRAINED
                )
            )
            result, last = end(config)
            run.add(last)
            run.finish(result)
    return store
