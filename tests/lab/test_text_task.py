"""Any text: where it is found, how it is cut, what is refused; the embedded problems with a known answer."""

import math
from pathlib import Path
from typing import Any

import handmade
import pytest
import torch

from thalweg.lab.errors import UserError
from thalweg.lab.tasks import load_task
from thalweg.lab.tasks.deep_linear import NOISE, WIDTH, maps
from thalweg.lab.tasks.files import VARIABLE
from thalweg.lab.tasks.plain_text import byte_pairs


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    handmade.text(folder)
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


def test_characters_are_those_of_the_text_in_order(data: Path) -> None:
    text = (data / "tinyshakespeare" / "input.txt").read_text()
    alphabet = sorted(set(text))
    inputs, targets = load_task("text").validation
    begin = len(text) - 2 * (len(text) // 20)
    assert "".join(alphabet[number] for number in inputs[0].tolist()) == text[begin : begin + inputs.shape[1]]
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_the_only_text_of_the_folder_is_found(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (data / "tinyshakespeare" / "input.txt").rename(other / "novel.txt")
    monkeypatch.setenv(VARIABLE, str(other))
    assert "novel.txt" in load_task("text").summary
    (other / "second.txt").write_text("x")
    with pytest.raises(UserError, match=r"expected DIR/tinyshakespeare/input.txt \(any UTF-8 text"):
        from thalweg.lab.tasks import _from_files

        _from_files.cache_clear()
        load_task("text")


def test_byte_pairs_are_merged_and_numbered_anew(data: Path) -> None:
    assert byte_pairs("the teth\u00e9", data) == [8, 3, 0, 2, 7, 5, 6]
    task = load_task("text-bpe")
    used = {int(number) for batch in (task.validation, task.test) for number in batch[0].unique()}
    kinds = task.model(0)(task.validation[0][:1]).shape[-1]
    assert used <= set(range(kinds))
    assert kinds <= 9


def test_byte_pairs_have_another_name_elsewhere(data: Path) -> None:
    expected = byte_pairs("the the", data)
    own = data / "gpt2_bpe"
    (own / "encoder.json").rename(own / "vocab.json")
    (own / "vocab.bpe").rename(own / "merges.txt")
    assert byte_pairs("the the", data) == expected


def test_damaged_byte_pairs_are_named(data: Path) -> None:
    path = data / "gpt2_bpe" / "encoder.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(UserError, match=r"encoder.json and .*vocab.bpe are not GPT-2's byte pairs") as refused:
        load_task("text-bpe")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"short", "has 5 tokens"), (b"", "has 0 tokens"), (b"\xff", "no UTF-8")]
)
def test_a_text_that_cannot_be_used_is_named(content: bytes, said: str, data: Path) -> None:
    (data / "tinyshakespeare" / "input.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"input.txt .*{said}"):
        load_task("text")


def test_the_noisy_quadratic_has_the_gradient_noise_of_its_paper() -> None:
    """Mean gradient hθ, variance h/B an entry: of 4,000 batches, within 5 standard errors."""
    task = load_task("noisy-quadratic")
    model: Any = task.model(0)
    theta, h = model.theta, model.curvature
    batches = task.batches(0)
    gradients: list[torch.Tensor] = []
    for _ in range(4000):
        inputs, targets = next(batches)
        gradients.append(torch.autograd.grad(task.loss(model(inputs[:, :1000]), targets), theta)[0][:3])
    found = torch.stack(gradients).double()
    deviation = (h[:3] / task.batch_size).sqrt()
    assert ((found.mean(0) - (h * theta)[:3]).abs() < 5 * deviation / math.sqrt(4000)).all()
    assert ((found.std(0) / deviation - 1).abs() < 5 / math.sqrt(2 * 4000)).all()


def test_the_noisy_quadratic_is_evaluated_without_noise() -> None:
    task = load_task("noisy-quadratic")
    model: Any = task.model(0)
    expected = 0.5 * sum(float(t) ** 2 / i for i, t in enumerate(model.theta.tolist(), 1))
    assert task.metric.measure(model(task.validation[0]), task.validation[1]).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_the_deep_linear_map_has_the_loss_of_its_noise() -> None:
    """The least-squares map leaves the noise, d σ² in expectation."""
    (x, y), (held_out, targets), _ = maps()
    weights = torch.linalg.lstsq(x, y).solution
    left = (held_out @ weights - targets).square().sum(1).mean().item()
    assert left == pytest.approx(WIDTH * NOISE**2, rel=0.1)


def test_the_deep_linear_start_is_orthogonal() -> None:
    for weight in load_task("deep-linear").model(0).parameters():
        torch.testing.assert_close(weight @ weight.T, 0.6**2 * torch.eye(WIDTH), atol=1e-5, rtol=0)


def test_full_batches_at_the_edge_have_all_rows() -> None:
    task = load_task("eos-mlp")
    batches = task.batches(0)
    one, other = next(batches)[0], next(batches)[0]
    assert sorted(map(tuple, one.tolist())) == sorted(map(tuple, other.tolist()))
