"""Tasks on the user's files: what is read, what is refused; hand-made rows, and the real files where THALWEG_DATA says so."""

import codecs
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import handmade
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commands import Command

from thalweg.core.optimizer import Optimizer
from thalweg.lab.comparison import Request
from thalweg.lab.contract import task_terms
from thalweg.lab.errors import UserError
from thalweg.lab.execution.workers import run_all
from thalweg.lab.listing import LISTINGS
from thalweg.lab.models import resnet18
from thalweg.lab.records import RunConfig
from thalweg.lab.reproduce import command as again
from thalweg.lab.run import Trainer, evaluate
from thalweg.lab.space import entry
from thalweg.lab.store import Store
from thalweg.lab.study import tuning_runs
from thalweg.lab.tasks import FROM_FILES, Task, from_files, load_task
from thalweg.lab.tasks.cifar10 import cropped, normaliser, read_batch
from thalweg.lab.tasks.files import VARIABLE
from thalweg.lab.tasks.pickled import read_pickle

REAL = os.environ.get(VARIABLE)
"""What it was before any test."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with all that the tasks on files want."""
    folder = handmade.everything(tmp_path / "data")
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")


def images_of(folder: Path, *names: str) -> np.ndarray[Any, Any]:
    read = [pickle.loads((folder / name).read_bytes()) for name in names]
    return np.concatenate([one[b"data"] for one in read])


def config(task: Task, optimizer: str = "adamw", **changes: Any) -> RunConfig:
    request = Request([task.name], optimizer, trials=1, seeds=1)
    contract = request.contract()
    made = tuning_runs(contract, task_terms(task), contract.optimizers[0])[0]
    return made.model_copy(update=changes)


# CIFAR-10


def test_every_image_of_the_batches_is_in_one_split_with_its_label(data: Path) -> None:
    own = data / "cifar-10-batches-py"
    raw = images_of(own, "data_batch_1", "data_batch_2")
    labels = [label for n in (1, 2) for label in pickle.loads((own / f"data_batch_{n}").read_bytes())[b"labels"]]
    task = load_task("cifar10")
    # The network sees (image − mean) / deviation; both are the training rows', so the split can be undone by them.
    seen = {tuple(row): label for row, label in zip(raw.tolist(), labels, strict=True)}
    inputs, targets = task.validation
    held_out = len(targets)
    assert held_out == 160 // 10
    order = torch.randperm(160, generator=torch.Generator().manual_seed(0)).numpy()
    train = raw[order[held_out:]].reshape(-1, 3, 1024).astype(np.float64)
    mean, deviation = train.mean((0, 2)), train.std((0, 2))
    back = inputs.double().reshape(held_out, 3, 1024).numpy() * deviation[:, None] + mean[:, None]
    found = np.rint(back).astype(int).reshape(held_out, 3072)
    assert np.abs(back.reshape(held_out, 3072) - found).max() < 1e-3
    assert [seen[tuple(row)] for row in found.tolist()] == targets.tolist()


def test_channels_are_normalised_by_mean_and_deviation_of_the_training_rows() -> None:
    images = torch.randint(256, (50, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[:, 1] //= 2
    normal = normaliser(images)(images).double()
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(normal.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-6, rtol=0)
    assert normaliser(torch.zeros_like(images))(images).isfinite().all(), "a blank channel has no deviation"


def test_crops_and_flips_are_those_of_one_image_at_a_time() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(20, 3, 32, 32, generator=draw)
    corners, flips = torch.randint(9, (2, 20), generator=draw), torch.randint(2, (20,), generator=draw).bool()
    expected: list[torch.Tensor] = []
    for image, top, left, flip in zip(images, corners[0].tolist(), corners[1].tolist(), flips.tolist(), strict=True):
        one = F.pad(image, [4, 4, 4, 4])[:, top : top + 32, left : left + 32]
        expected.append(one.flip(-1) if flip else one)
    assert torch.equal(cropped(images, corners, flips), torch.stack(expected))


def test_fewer_batches_are_said_and_change_the_hash(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = load_task("cifar10")
    assert "2 of 5 batches" in two.summary
    own = handmade.cifar10(tmp_path / "other", batches=5)
    monkeypatch.setenv(VARIABLE, str(own))  # the folder itself is found too
    five = load_task("cifar10")
    assert "5 of 5 batches" in five.summary
    assert five.data_hash != two.data_hash


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_unpickler_reads_arrays_bytes_and_plain_values_of_any_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "batch"
    content = {b"data": np.arange(12, dtype=np.uint8).reshape(3, 4), b"labels": [1, 2, 3], b"name": b"\x00\xff"}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_pickle(path)
    assert np.array_equal(found.pop(b"data"), content.pop(b"data"))
    assert found == content


def test_the_unpickler_reads_what_python_2_wrote(tmp_path: Path) -> None:
    """An array and a str as Python 2.7 and numpy 1 pickled them: both hold bytes."""
    path = tmp_path / "batch"
    path.write_bytes(
        b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
        b"(K\x01K\x01K\x03\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x03\x01\xfe\xfftbU\x06labelsq\x07]q\x08K\x07au."
    )
    found = read_pickle(path)
    assert np.array_equal(found[b"data"], np.array([[1, 254, 255]], dtype=np.uint8))
    assert found[b"labels"] == [7]


class Calls:
    """Pickled, it says: call this."""

    def __init__(self, function: Any, *arguments: Any):
        self.asked = function, arguments

    def __reduce__(self) -> Any:
        return self.asked


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (Calls(os.mkdir, "owned"), "mkdir"),
        (Calls(eval, "open('owned', 'w')"), "eval"),
        (Calls(codecs.encode, "text", "rot13"), "rot13"),
        (Calls(np.load, "owned"), "load"),
        (Calls(np.ndarray, (10**12,)), "not callable"),
        (Path("x"), "Path"),
    ],
)
def test_the_unpickler_calls_nothing(asked: Any, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": asked, b"labels": []}))
    with pytest.raises(UserError, match=f"data_batch_1 is no pickle of arrays: .*{named}") as refused:
        read_pickle(path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "owned").exists()


BYTES = np.zeros((2, 3072), dtype=np.uint8)


@pytest.mark.parametrize(
    ("data", "labels", "said"),
    [
        (BYTES, [0, 10], "has the label 10"),
        (BYTES, [0, -1], "has the label -1"),
        (BYTES, [0, True], "has the label True"),
        (BYTES, [0, "frog"], "has the label 'frog'"),
        (BYTES, [0], r"has 1 labels, data uint8 \(2, 3072\)"),
        (BYTES[:, :3000], [0, 1], r"data uint8 \(2, 3000\)"),
        (BYTES.astype(np.int64), [0, 1], "data int64"),
        (None, [0, 1], "has another layout"),
        (BYTES, None, "has another layout"),
    ],
)
def test_a_batch_of_another_layout_is_named_with_what_is_expected(
    data: Any, labels: Any, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "data_batch_1"
    handmade.write_batch(path, data, labels)
    with pytest.raises(UserError, match=f"data_batch_1 .*{said}.*") as refused:
        read_batch(path)
    assert "expected {b'data': uint8 (N, 3072), b'labels': list of N numbers 0 to 9}" in str(refused.value)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_batch_is_named(kept: int, data: Path) -> None:
    path = data / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"data_batch_2 is no pickle of arrays: .*get the file again"):
        load_task("cifar10")


@pytest.mark.parametrize(
    ("content", "said"), [([1], "another layout"), ({b"data": BYTES[:0], b"labels": []}, "0 labels")]
)
def test_no_dictionary_and_no_rows_are_another_layout(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "test_batch"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=said):
        read_batch(path)


# ResNet-18


def test_the_resnet_has_the_parameters_of_its_table() -> None:
    """11,173,962 for width 64 and 10 classes: 9·(3·64 + 4·64² + 64·128 + 3·128² + …) + shortcuts + norms + output."""
    convolutions = 3 * 64 + 4 * 64**2 + sum(n * 2 * n + 3 * (2 * n) ** 2 for n in (64, 128, 256))
    shortcuts = sum(n * 2 * n for n in (64, 128, 256))
    norms = 2 * (64 * 5 + sum(2 * n * 5 for n in (64, 128, 256)))
    model = resnet18(64, 10)
    assert sum(p.numel() for p in model.parameters()) == 9 * convolutions + shortcuts + norms + 512 * 10 + 10
    assert sum(isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) for layer in model.modules()) == 18 + 3


def test_an_evaluation_in_parts_is_that_of_the_whole(data: Path) -> None:
    task = load_task("cifar10")
    task = Task(**{**vars(task), "rows_at_once": 7})
    model = task.model(0)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval()
    whole = model(task.validation[0])
    loss, value, _ = evaluate(task, model, task.validation)
    assert loss == pytest.approx(F.cross_entropy(whole, task.validation[1]).item(), rel=1e-5)
    assert value == pytest.approx(100 * (whole.argmax(1) == task.validation[1]).float().mean().item(), rel=1e-5)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_an_average_is_evaluated_with_batch_statistics_of_its_own(data: Path) -> None:
    task = load_task("cifar10")
    trainer = Trainer(config(task, "adamw_schedule_free"), task)
    for _ in range(3):
        trainer.step()
    measured = trainer.evaluate(task.validation)
    optimizer = trainer.optimizer
    assert isinstance(optimizer, Optimizer)
    with optimizer.evaluation():
        average = task.model(0)
        average.load_state_dict(trainer.model.state_dict())
    average.train()
    for layer in average.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = 1.0
    average(task.probe[0])
    assert measured[:2] == pytest.approx(evaluate(task, average, task.validation)[:2], rel=1e-5)


# Penn Treebank


def test_words_are_numbered_and_a_line_ends_with_eos(data: Path) -> None:
    task, own = load_task("ptb"), data / "ptb"
    vocabulary = sorted({*(own / "ptb.train.txt").read_text().split(), "<eos>"})
    lines = (own / "ptb.valid.txt").read_text().splitlines()
    tokens = [vocabulary.index(word) for line in lines for word in [*line.split(), "<eos>"]]
    inputs, targets = task.validation
    assert inputs[0].tolist() == tokens[: inputs.shape[1]]
    assert targets[-1].tolist() == tokens[-targets.shape[1] :]
    assert task.model(0)(inputs).shape == (*inputs.shape, len(vocabulary))


def test_characters_are_those_of_the_text(data: Path) -> None:
    task, own = load_task("ptb-gpt"), data / "ptb"
    alphabet = sorted(set((own / "ptb.train.txt").read_text()))
    inputs, targets = task.test
    text = (own / "ptb.test.txt").read_text()
    assert "".join(alphabet[number] for number in inputs[0].tolist()) == text[: inputs.shape[1]]
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


@pytest.mark.parametrize(
    ("split", "content", "said"),
    [
        (
            "valid",
            b" the market said zebra " * 9,
            "ptb.valid.txt has 1 symbols that ptb.train.txt lacks, such as 'zebra'",
        ),
        ("test", b"", "ptb.test.txt has 0 symbols; a window takes 21"),
        ("train", b"", "ptb.train.txt has 0 symbols"),
        ("valid", b"the \xff market", "ptb.valid.txt is no UTF-8 text: byte 4 is 0xff"),
    ],
)
def test_a_text_that_cannot_be_used_is_named(split: str, content: bytes, said: str, data: Path) -> None:
    (data / "ptb" / f"ptb.{split}.txt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_task("ptb")


# All of them


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_preset_sizes_the_task_and_stands_in_its_terms(name: str, data: Path) -> None:
    tiny, paper = load_task(name), load_task(name, "paper")
    assert tiny is load_task(name, "tiny")
    assert (tiny.preset, paper.preset) == ("tiny", "paper")
    assert paper.budget != tiny.budget
    assert task_terms(tiny).preset == "tiny"
    assert config(tiny).preset == "tiny"
    assert "preset tiny" in tiny.summary


@pytest.mark.parametrize("name", FROM_FILES)
def test_missing_files_are_named_with_their_layout(name: str, tmp_path: Path, command: Command, no_data: None) -> None:
    layout = from_files(name).layouts[0]
    for options, said in [
        ((), "--data is not given"),
        (("--data", tmp_path), f"--data {tmp_path}: these files are not there"),
    ]:
        refused = command("compare", name, *options)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert f"expected DIR/{layout.folder}/{layout.files} ({layout.what})" in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_a_file_that_alone_is_missing_is_named(data: Path) -> None:
    (data / "ptb" / "ptb.valid.txt").unlink()
    with pytest.raises(UserError, match=r"ptb has no ptb.valid.txt; expected DIR/ptb/\{ptb.train.txt, "):
        load_task("ptb")


def test_the_list_says_which_files_are_found(data: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "ptb" / "ptb.test.txt").unlink()
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr("thalweg.lab.listing.TASKS", ["cifar10", "ptb", "digits-mlp"])
    out = command("list", "tasks", "--data", data).stdout.splitlines()
    rows = {line.split()[0]: line for line in out if line.strip()}
    assert rows["cifar10"].rstrip().endswith(" found")
    assert rows["ptb"].rstrip().endswith("not usable")
    assert rows["digits-mlp"].rstrip().endswith("none needed")


LIBRARIES = ("transformers", "tokenizers", "PIL", "PIL.Image")


def test_the_list_needs_no_library_and_reads_no_file(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in data.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    for library in LIBRARIES:
        monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr("thalweg.lab.listing.TASKS", list(FROM_FILES))
    assert {row["files"] for row in LISTINGS["tasks"]()} == {"found"}


@pytest.mark.parametrize("name", ["sst2", "squad", "text-bpe", "imagenet"])
def test_a_missing_library_is_named_with_its_extra(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in LIBRARIES:
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=r'is not installed; this task needs: pip install "thalweg\[tasks\]"'):
        load_task(name)


def test_an_unknown_preset_is_named(data: Path, command: Command) -> None:
    refused = command("compare", "ptb", "--preset", "large")
    assert refused.returncode == 2
    assert "preset 'large' is unknown. Known: paper, tiny." in refused.stderr


def test_the_command_of_a_study_has_preset_and_data(data: Path) -> None:
    contract = Request(["ptb"], "adamw", 1, 1, preset="paper").contract()
    assert again(contract).endswith("--preset paper --data DIR")
    assert again(contract, "x").endswith(f"--preset paper --data {data} --store x")


def test_a_study_on_files_runs_in_workers_and_holds_no_path(data: Path, tmp_path: Path) -> None:
    contract = Request(["ptb"], "momentum", trials=1, seeds=1).contract()
    short = contract.tasks[0].model_copy(update={"budget": 5})
    store = Store.create(
        tmp_path / "study", contract.model_copy(update={"tasks": [short], "evaluations": 1, "aside": ()})
    )
    assert [result.steps for _, result in run_all(store, 1)] == [5, 5], "a run that cannot read its data takes none"
    stored = "".join(path.read_text() for path in store.folder.rglob("*.json*"))
    assert str(data) not in stored


@pytest.mark.skipif(not REAL, reason=f"{VARIABLE} names no folder with the real files")
@pytest.mark.parametrize("name", FROM_FILES)
def test_the_real_files_are_read_and_learnt_from(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, REAL or "")
    try:
        for layout in from_files(name).layouts:
            layout.find(Path(REAL or ""))
    except UserError as missing:
        pytest.skip(str(missing))
    task = load_task(name)
    trainer = Trainer(config(task, keywords={**entry("adamw").fixed, "lr": 3e-3}), task)
    before = trainer.evaluate(task.validation)[0]
    for _ in range(10):
        trainer.step()
    assert trainer.evaluate(task.validation)[0] < before
