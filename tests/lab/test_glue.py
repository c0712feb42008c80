"""GLUE: what is read of each file, what is refused, and its metrics against their definitions."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import handmade
import pytest
import torch
from torch.nn.functional import one_hot

from thalweg.lab.errors import UserError
from thalweg.lab.run import evaluate
from thalweg.lab.tasks import load_task, scores
from thalweg.lab.tasks.files import VARIABLE
from thalweg.lab.tasks.glue import CORPORA, read
from thalweg.lab.tasks.wordpiece import encode, read_vocabulary

REAL = os.environ.get(VARIABLE)
"""What it was before any test."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    handmade.glue(folder)
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


@pytest.mark.parametrize("name", CORPORA)
def test_rows_are_those_of_the_file(name: str, data: Path) -> None:
    corpus = CORPORA[name]
    path = corpus.layout.paths(data)[1]
    header = handmade.GLUE[corpus.folder][0].split("\t")
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    expected = [
        ([line[header.index(column)] for column in corpus.sentences], line[header.index(corpus.label)])
        for line in (lines if name == "cola" else lines[1:])
    ]
    rows = read(path, corpus)
    assert [([texts] if isinstance(texts, str) else [*texts], label) for texts, label in rows] == expected
    assert len(rows) == 20
    targets = load_task(name).test[1]
    labels = [float(label) if name == "stsb" else corpus.classes.index(label) for _, label in rows]
    assert targets.tolist() == labels


def test_quotes_tabs_carriage_returns_and_a_byte_order_mark_are_read_as_published(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    sentence = 'a " is no quote , and \u2028 no line'
    path.write_bytes(("\ufeffsentence\tlabel\r\n" + f"{sentence}\t1\r\n" * 10).encode())
    assert read(path, CORPORA["sst2"]) == [(sentence, "1")] * 10


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("sst2", lambda text: text[: text.rindex("\t")], "train.tsv line 61 has 1 columns, not 2"),
        ("sst2", lambda text: "", "has no column 'sentence'"),
        ("sst2", lambda text: "sentence\tlabel\n", "has 0 rows, 10 are the fewest"),
        ("sst2", lambda text: text.replace("label", "target"), "has no column 'label', its first line is"),
        ("sst2", lambda text: text.replace("\t1\n", "\tgood\n"), "line 3 has the label 'good'; it must be 0 or 1"),
        ("cola", lambda text: "source\tlabel\tstar\tsentence\n" + text, "line 1 has the label 'label'"),
        ("stsb", lambda text: text.replace("2.5", "nan"), "the label 'nan'; it must be a number from 0 to 5"),
        ("stsb", lambda text: text.replace("2.5", "5.1"), "the label '5.1'"),
        ("stsb", lambda text: text.replace("2.5", "high"), "the label 'high'"),
        ("rte", lambda text: text.replace("\t", ","), "has no column 'sentence1'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(name: str, change: Callable[[str], str], said: str, data: Path) -> None:
    path = CORPORA[name].layout.paths(data)[0]
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=said) as refused:
        load_task(name)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_ragged_rows_of_qqp_are_left_out(data: Path) -> None:
    path = CORPORA["qqp"].layout.paths(data)[0]
    path.write_text(path.read_text() + "1\t2\t3\tthe cat\n")
    assert len(read(path, CORPORA["qqp"])) == 60


def test_a_pair_has_two_segments_and_padding(data: Path) -> None:
    vocabulary = read_vocabulary(data)
    pieces = [*vocabulary]
    packed = encode([("The CATS sat", "a zebra?")], vocabulary, 12)
    tokens = [pieces[number] for number in packed[0, 0].tolist()]
    assert tokens == ["[CLS]", "the", "cat", "##s", "sat", "[SEP]", "a", "[UNK]", "?", "[SEP]", "[PAD]", "[PAD]"]
    assert packed[0, 1].tolist() == [0] * 6 + [1] * 4 + [0] * 2


def test_padding_changes_no_output(data: Path) -> None:
    model = load_task("mrpc").model(0).eval()
    vocabulary = read_vocabulary(data)
    short, long = (encode([("the cat sat", "a dog ran")], vocabulary, length) for length in (12, 40))
    torch.testing.assert_close(model(short), model(long), atol=1e-5, rtol=1e-5)


def test_a_vocabulary_without_special_pieces_is_named(data: Path) -> None:
    path = data / "bert_vocab" / "vocab.txt"
    path.write_text(path.read_text().replace("[SEP]\n", ""))
    with pytest.raises(UserError, match=r"vocab.txt has no \[SEP\]"):
        load_task("sst2")


def test_a_missing_vocabulary_is_named(data: Path) -> None:
    (data / "bert_vocab" / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"expected DIR/bert_vocab/vocab.txt \(WordPieces"):
        load_task("sst2")


def test_matthews_f1_and_correlations_are_those_of_their_definitions() -> None:
    draw = torch.Generator().manual_seed(0)
    meant = torch.randint(2, (80,), generator=draw)
    found = torch.where(torch.rand(80, generator=draw) < 0.3, 1 - meant, meant)
    logits = one_hot(found, 2).float()
    tp, tn, fp, fn = (int(((found == a) & (meant == b)).sum()) for a, b in [(1, 1), (0, 0), (1, 0), (0, 1)])
    phi = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert _value(scores.MATTHEWS, logits, meant) == pytest.approx(100 * phi)
    assert _value(scores.F1, logits, meant) == pytest.approx(100 * 2 * tp / (2 * tp + fp + fn))
    assert _value(scores.ACCURACY, logits, meant) == pytest.approx(100 * (tp + tn) / 80)
    numbers, truths = torch.randn(30, generator=draw), torch.randint(4, (30,), generator=draw).float()
    truths += (numbers > 0).float()
    assert _value(scores.PEARSON, numbers[:, None], truths) == pytest.approx(100 * _correlation(numbers, truths))
    ranks = [torch.tensor([((x < one).sum() + (x <= one).sum() + 1) / 2 for one in x]) for x in (numbers, truths)]
    assert _value(scores.SPEARMAN, numbers[:, None], truths) == pytest.approx(100 * _correlation(*ranks))


def _correlation(x: torch.Tensor, y: torch.Tensor) -> float:
    x, y = (x - x.mean()).double(), (y - y.mean()).double()
    return float((x @ y) / (x.norm() * y.norm()))


def _value(metric: scores.Metric, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    parts = [metric.measure(outputs[half], targets[half]) for half in (slice(0, 7), slice(7, None))]
    return metric.sum_up(torch.cat(parts)).item()


@pytest.mark.parametrize("metric", [scores.MATTHEWS, scores.PEARSON, scores.SPEARMAN], ids=lambda m: m.name)
def test_an_answer_that_never_changes_is_worth_0(metric: scores.Metric) -> None:
    outputs = torch.ones(6, 2 if metric is scores.MATTHEWS else 1)
    assert _value(metric, outputs, torch.tensor([0, 1, 0, 1, 1, 0])) == 0


def test_f1_without_a_positive_is_0() -> None:
    assert _value(scores.F1, torch.tensor([[1.0, 0.0]]).expand(4, 2), torch.zeros(4, dtype=torch.int64)) == 0


def test_what_else_is_reported(data: Path) -> None:
    task = load_task("mrpc")
    measured = evaluate(task, task.model(0), task.validation)
    assert set(measured.also) == {"accuracy"}


def test_local_weights_are_read_at_the_preset_paper_and_hashed(data: Path) -> None:
    from transformers import BertConfig, BertModel

    random = load_task("rte", "paper")
    assert "random weights" in random.summary
    own = data / "bert-base-uncased"
    vocabulary = (data / "bert_vocab" / "vocab.txt").read_text()
    config = BertConfig(
        vocab_size=21,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    bert = BertModel(config)
    bert.save_pretrained(own)
    (own / "vocab.txt").write_text(vocabulary)
    from thalweg.lab.tasks import _from_files

    _from_files.cache_clear()
    task = load_task("rte", "paper")
    assert "pretrained weights" in task.summary
    assert task.data_hash != random.data_hash
    one, other = task.model(0), task.model(1)
    words = "network.bert.embeddings.word_embeddings.weight"
    assert torch.equal(one.get_parameter(words), bert.embeddings.word_embeddings.weight)
    assert not torch.equal(
        one.get_parameter("network.classifier.weight"), other.get_parameter("network.classifier.weight")
    )
    assert all(layer.p == 0 for layer in one.modules() if isinstance(layer, torch.nn.Dropout))


@pytest.mark.skipif(not REAL, reason=f"{VARIABLE} names no folder with the real files")
@pytest.mark.parametrize(("name", "train", "dev"), [("SST-2", 67349, 872), ("CoLA", 8551, 1043)])
def test_the_real_files_have_the_rows_that_glue_says(name: str, train: int, dev: int) -> None:
    corpus = next(corpus for corpus in CORPORA.values() if corpus.folder == name)
    assert [len(read(path, corpus)) for path in corpus.layout.paths(Path(REAL or ""))] == [train, dev]
