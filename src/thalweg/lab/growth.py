"""Contracts that grow: what a study may be extended to, and what several come to together."""

from collections.abc import Sequence
from functools import reduce
from typing import TypeVar

from thalweg.lab.contract import Contract, EntryTerms, TaskTerms, require_same
from thalweg.lab.errors import UserError
from thalweg.lab.plain import brief, plainest_difference

Named = TypeVar("Named", TaskTerms, EntryTerms)


def restricted(contract: Contract, to: Contract) -> Contract:
    """Return the part of a contract that another one is about: its tasks, optimizers, trials and seeds, where it has them."""
    return contract.model_copy(
        update={
            "tasks": _of_names(contract.tasks, to.tasks),
            "optimizers": [
                terms.model_copy(update={"points": terms.points[: len(other.points)]})
                for other in to.optimizers
                for terms in contract.optimizers
                if terms.name == other.name
            ],
            "trials": min(contract.trials, to.trials),
            "final_seeds": contract.final_seeds[: len(to.final_seeds)],
        }
    )


def _of_names(terms: Sequence[Named], others: Sequence[Named]) -> list[Named]:
    found = {one.name: one for one in terms}
    return [found[other.name] for other in others if other.name in found]


def extends(asked: Contract, stored: Contract) -> bool:
    """Whether a contract asks for all that a stored study is about, under the same terms, and perhaps for more."""
    return restricted(asked, stored) == stored


def require_extension(stored: Contract, asked: Contract, folder: str) -> None:
    """Check that a contract asks for all that a stored study is about, under the same terms, and perhaps for more:
    trials, seeds, optimizers, tasks.

    Raises:
        UserError: it does not; the message names a field that differs.
    """
    require_same(stored, restricted(asked, stored), folder)


def joined(contracts: Sequence[Contract]) -> Contract:
    """Return the contract of all that some studies are about.

    Raises:
        UserError: they differ in what they have in common, as the number of trials.
    """
    return reduce(_joined, contracts)


def _joined(one: Contract, other: Contract) -> Contract:
    if one.trials != other.trials:
        raise UserError(
            f"these studies cannot be merged: one has {one.trials} trials and another {other.trials}, so that budgets are"
            " not equal. Extend the shorter one first: repeat its command with the larger --trials."
        )
    common = restricted(one, to=other)
    same = restricted(other, to=common).model_copy(update={"suite": one.suite})
    found = plainest_difference(common.model_dump(mode="json"), same.model_dump(mode="json"))
    if found:
        field, here, there = found
        raise UserError(f"these studies cannot be merged: {field} is {brief(here)} in one, {brief(there)} in another.")
    return one.model_copy(
        update={
            "suite": one.suite if one.suite == other.suite else "tasks",
            "tasks": _union(one.tasks, other.tasks),
            "optimizers": _union(one.optimizers, other.optimizers),
            "final_seeds": max(one.final_seeds, other.final_seeds, key=len),
        }
    )


def _union(one: Sequence[Named], other: Sequence[Named]) -> list[Named]:
    names = {terms.name for terms in one}
    return [*one, *(terms for terms in other if terms.name not in names)]
