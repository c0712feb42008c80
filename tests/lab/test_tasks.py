"""The tasks: data, splits, metrics, networks."""

import itertools
import math
from pathlib import Path

import handmade
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score

from thalweg.lab.errors import UserError
from thalweg.lab.models import GPT
from thalweg.lab.tasks import TASKS, _embedded, _from_files, load_task
from thalweg.lab.tasks.digits import digits, squared_error
from thalweg.lab.tasks.files import VARIABLE
from thalweg.lab.tasks.task import accuracy

tasks = pytest.mark.parametrize("name", TASKS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return handmade.everything(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _by_hand(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks on files read hand-made ones."""
    monkeypatch.setenv(VARIABLE, str(data))


@tasks
def test_a_task_is_the_same_each_time_it_is_built(name: str) -> None:
    one = load_task(name)
    _embedded.cache_clear()
    _from_files.cache_clear()
    other = load_task(name)
    assert one.name == name
    assert one.data_hash == other.data_hash
    for mine, yours in zip(one.model(3).parameters(), other.model(3).parameters(), strict=True):
        assert torch.equal(mine, yours)
    for mine, yours in itertools.islice(zip(one.batches(3), other.batches(3), strict=False), 50):
        assert torch.equal(mine[0], yours[0])
        assert torch.equal(mine[1], yours[1])


@tasks
def test_seeds_differ_and_leave_the_global_generator_alone(name: str) -> None:
    task = load_task(name)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, other = task.model(0), task.model(1)
    assert torch.equal(before, torch.get_rng_state())
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(next(task.batches(0))[0], next(task.batches(1))[0])


@tasks
def test_batches_have_their_size_and_the_loss_a_gradient_for_every_parameter(name: str) -> None:
    task = load_task(name)
    inputs, targets = next(task.batches(0))
    assert len(inputs) == len(targets) == task.batch_size
    model = task.model(0)
    task.loss(model(inputs), targets).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    rows = task.metric.measure(model(task.validation[0][:]), task.validation[1])
    assert len(rows) == len(task.validation[0])
    assert task.metric.sum_up(rows).dim() == 0


def test_the_splits_of_the_digits_are_all_of_them_once() -> None:
    data = digits()
    assert [len(labels) for _, labels in data] == [1077, 360, 360]
    ours = torch.cat([images for images, _ in data]) * 16
    theirs = torch.as_tensor(load_digits(return_X_y=True)[0], dtype=torch.float32)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))


def test_an_epoch_shows_every_row_at_most_once() -> None:
    task = load_task("digits-mlp")
    rows = torch.cat([inputs for inputs, _ in itertools.islice(task.batches(0), 1077 // 32)])
    assert len(rows.unique(dim=0)) == len(rows)


def test_metrics_agree_with_their_definitions() -> None:
    outputs, labels = torch.randn(50, 10), torch.randint(10, (50,))
    assert accuracy(outputs, labels).mean().item() == pytest.approx(100 * accuracy_score(labels, outputs.argmax(1)))
    images = torch.rand(5, 64)
    expected = sum(float(((a - b) ** 2).sum()) for a, b in zip(outputs[:5, :1].expand(5, 64), images, strict=True)) / 5
    assert squared_error(outputs[:5, :1].expand(5, 64), images).mean().item() == pytest.approx(expected, rel=1e-5)


def test_the_text_is_split_in_order_and_targets_are_the_next_characters() -> None:
    task = load_task("docs-gpt")
    for inputs, targets in (next(task.batches(0)), task.validation, task.test):
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
    loss = task.loss(task.model(0)(task.validation[0]), task.validation[1]).item()
    assert loss == pytest.approx(math.log(100), rel=0.2), "an untrained model knows nothing"


def test_the_gpt_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    model = GPT(vocabulary=20, context=8, width=16, heads=2, layers=2)
    tokens = torch.randint(20, (1, 8))
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 20
    one, other = model(tokens), model(changed)
    assert torch.equal(one[0, :5], other[0, :5])
    assert not torch.equal(one[0, 5:], other[0, 5:])


def test_an_unknown_task_is_named_with_its_nearest() -> None:
    with pytest.raises(UserError, match="task 'digits-mpl' is unknown"):
        load_task("digits-mpl")
