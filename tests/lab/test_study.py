"""What a study does next, whatever the order its runs end in."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.lab.contract import RULESETS, Contract, Ruleset, draw_up
from thalweg.lab.records import Result, RunConfig
from thalweg.lab.space import ENTRIES
from thalweg.lab.study import cells, last_runs, ready, ready_after, tuning_runs, winner


def small(ruleset: Ruleset = "tuned") -> Contract:
    entries = [ENTRIES[name] for name in ("adamw", "sgd", "dcao_adamw")[: 3 if ruleset == "robustness" else 2]]
    contract = draw_up("tasks", ["digits-mlp", "digits-autoencoder"], entries, trials=3, seeds=2, ruleset=ruleset)
    return contract.model_copy(update={"multiples": contract.multiples[3:5]})


def outcome(config: RunConfig, salt: int) -> Result:
    """A made-up result that depends on the run alone."""
    draw = random.Random(f"{config.path}/{salt}")
    if draw.random() < 0.3:
        return Result(state="diverged")
    return Result(state="ok", value=draw.choice([1.0, 2.0, 3.0]), loss=draw.random())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False), st.sampled_from(RULESETS))
def test_any_order_does_the_same_runs_once(salt: int, order: random.Random, ruleset: Ruleset) -> None:
    contract = small(ruleset)
    results: dict[str, Result] = {}
    queue = ready(contract, results)
    while queue:
        config = queue.pop(order.randrange(len(queue)))
        assert config.path not in results
        results[config.path] = outcome(config, salt)
        waiting = {other.path for other in queue}
        queue += [new for new in ready_after(contract, config, results) if new.path not in waiting]
    assert len(results) == contract.runs
    assert ready(contract, results) == []
    for task, terms in cells(contract):
        chosen = winner(contract, task, terms, results)
        assert chosen is not None
        assert all(run.path in results for run in last_runs(contract, task, terms, chosen))


@given(st.integers(0, 10**6))
def test_the_winner_is_the_best_trial_that_did_not_fail(salt: int) -> None:
    contract = small()
    for task, terms in cells(contract):
        runs = tuning_runs(contract, task, terms)
        results = {run.path: outcome(run, salt) for run in runs}
        worked = [run for run in runs if results[run.path].ok]
        sign = 1 if task.better == "min" else -1
        value = {run.trial: (sign * (results[run.path].value or 0), results[run.path].loss) for run in worked}
        expected = min(worked, key=lambda run: value[run.trial], default=runs[0])
        assert winner(contract, task, terms, results) == expected.trial


def test_no_winner_before_every_trial_ended() -> None:
    contract = small()
    task, terms = next(cells(contract))
    runs = tuning_runs(contract, task, terms)
    assert winner(contract, task, terms, {run.path: outcome(run, 0) for run in runs[:-1]}) is None


def test_seeds_for_tuning_and_for_the_end_do_not_meet() -> None:
    contract = small()
    assert not set(contract.tuning_seeds) & set(contract.final_seeds)


def test_the_budget_is_equal() -> None:
    contract = small()
    budgets = {(run.task, run.optimizer): 0 for run in ready(contract, {})}
    for run in ready(contract, {}):
        budgets[run.task, run.optimizer] += run.budget
    for task in contract.tasks:
        assert budgets[task.name, "adamw"] == budgets[task.name, "sgd"] == 3 * task.budget


def test_every_part_of_the_contract_changes_its_hash() -> None:
    contract = small()
    others = [
        draw_up("tasks", ["digits-mlp"], [ENTRIES["adamw"], ENTRIES["sgd"]], trials=3, seeds=2),
        draw_up("tasks", ["digits-mlp", "digits-autoencoder"], [ENTRIES["sgd"]], trials=3, seeds=2),
        draw_up("tasks", ["digits-mlp", "digits-autoencoder"], [ENTRIES["adamw"], ENTRIES["sgd"]], trials=4, seeds=2),
        draw_up("tasks", ["digits-mlp", "digits-autoencoder"], [ENTRIES["adamw"], ENTRIES["sgd"]], trials=3, seeds=3),
        contract.model_copy(update={"timeout_seconds": 1.0}),
        contract.model_copy(update={"ruleset": "hands-off"}),
        contract.model_copy(update={"multiples": (1.0,)}),
    ]
    assert len({contract.hash, *(Contract.model_validate(other.model_dump()).hash for other in others)}) == 8
    assert contract.hash == small().hash == Contract.model_validate_json(contract.model_dump_json()).hash
