"""SQuAD: windows, spans, and the official evaluation's exact match and F1 against a plain transcription of it."""

import gzip
import json
import os
import re
import string
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import handmade
import pytest
import torch

from thalweg.lab.errors import UserError
from thalweg.lab.run import evaluate
from thalweg.lab.tasks import Task, load_task
from thalweg.lab.tasks.files import VARIABLE
from thalweg.lab.tasks.spans import LONGEST_ANSWER, Reading, exact_match, f1, normalized
from thalweg.lab.tasks.squad import LAYOUT, SIZES, read, well_placed, windows
from thalweg.lab.tasks.wordpiece import read_vocabulary

REAL = os.environ.get(VARIABLE)
"""What it was before any test."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    handmade.bert_vocab(folder)
    handmade.squad(folder)
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


def reading_of(task: Task) -> Reading:
    return task.metric.measure.__self__  # pyright: ignore[reportFunctionMemberAccess]


# The official evaluation


def official_normal(text: str) -> list[str]:
    """The definition word for word: characters filtered one by one, articles taken out as words."""
    kept = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    words: list[str] = []
    for word in re.split(r"(\W+)", kept):
        words.append(" " if word in ("a", "an", "the") else word)
    return "".join(words).split()


def official_f1(found: str, meant: str) -> float:
    left, right = official_normal(found), official_normal(meant)
    rest, same = list(right), 0
    for word in left:
        if word in rest:
            rest.remove(word)
            same += 1
    if same == 0:
        return 0
    precision, recall = same / len(left), same / len(right)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("found", "meant", "exact", "score"),
    [
        ("The Cat.", "cat", 1, 1),
        ("a the an", "", 1, 0),
        ("the  quick-brown\tfox", "quickbrown fox", 1, 1),
        ("theatre", "atre", 0, 0),
        ("cat cat dog", "cat", 0, 0.5),
        ("New York City", "York", 0, 0.5),
        ("42", "43", 0, 0),
        ("«un» café", "un café", 0, 0.5),
    ],
)
def test_scores_of_answers_by_hand(found: str, meant: str, exact: float, score: float) -> None:
    assert exact_match(found, meant) == exact
    assert f1(found, meant) == pytest.approx(score)


def test_scores_are_those_of_a_transcription() -> None:
    pieces = [
        "The",
        "a",
        "an",
        "cat",
        "U.S.",
        "U.S",
        "caf\u00e9",
        "-",
        "it's",
        "its",
        "10,000",
        "\u2014",
        "\u00a0",
        "Cat,",
    ]
    draw = torch.Generator().manual_seed(0)
    texts = [" ".join(pieces[n] for n in torch.randint(len(pieces), (5,), generator=draw).tolist()) for _ in range(60)]
    for found, meant in pairwise(texts):
        assert normalized(found).split() == official_normal(found)
        assert f1(found, meant) == pytest.approx(official_f1(found, meant))
        assert exact_match(found, meant) == (official_normal(found) == official_normal(meant))


def test_a_question_counts_its_best_answer_and_its_best_window() -> None:
    reading = Reading()
    one = reading.add("the cat sat on a mat", ["a mat", "cat"], [[(-1, -1), (0, 3)], [(4, 7), (8, 11)]])
    two = reading.add("dogs ran", ["ran fast"], [[(0, 4), (5, 8)]])
    assert (one, two) == ([0, 1], [2])
    rows = torch.tensor([[0, 1.0, 0, 3], [1, 2.0, 4, 7], [2, 0.0, 5, 8]], dtype=torch.float64)
    assert reading.answers(rows) == {0: "cat", 1: "ran"}
    assert reading.mean(exact_match)(rows).item() == 50
    assert reading.mean(f1)(rows).item() == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert reading.answers(rows.flip(0)) == reading.answers(rows)


# Windows


def test_windows_overlap_and_together_hold_the_paragraph(data: Path) -> None:
    vocabulary = read_vocabulary(data)
    asked = read(LAYOUT.paths(data)[0])[0][1]
    size = SIZES["tiny"]
    reading = Reading()
    packed, targets = windows([asked], vocabulary, size, reading)
    assert len(packed) == len(targets) > 1
    assert targets[:, 2].tolist() == list(range(len(packed)))
    spans = [{(b, e) for b, e in at.tolist() if b >= 0} for at in reading.characters]
    assert all(len(one & other) == size.stride for one, other in pairwise(spans))
    seen = {letter for span in spans for begin, end in span for letter in range(begin, end)}
    assert seen == {number for number, letter in enumerate(asked.context) if letter != " "}


def test_targets_point_at_the_answer(data: Path) -> None:
    vocabulary = read_vocabulary(data)
    asked = [one for paragraph in read(LAYOUT.paths(data)[0]) for one in paragraph]
    assert all(map(well_placed, asked))
    reading = Reading()
    packed, targets = windows(asked, vocabulary, SIZES["tiny"], reading)
    answered: set[int] = set()
    for first, last, number in targets.tolist():
        question = reading.question_of[number]
        if (first, last) != (0, 0):
            begin, end = reading.characters[number][first, 0], reading.characters[number][last, 1]
            assert asked[question].context[begin:end] == asked[question].answers[0]
            answered.add(question)
        else:
            assert packed[number, 0, 0] == vocabulary["[CLS]"]
    assert answered == set(range(len(asked)))


def test_the_best_span_is_that_of_a_loop(data: Path) -> None:
    task = load_task("squad")
    inputs, targets = (part[:5] for part in task.validation)
    logits = torch.randn(5, 2, inputs.shape[-1], generator=torch.Generator().manual_seed(0))
    rows = task.metric.measure(logits, targets)
    reading = reading_of(task)
    for row, (start, end), number in zip(rows.tolist(), logits.tolist(), targets[:, 2].tolist(), strict=True):
        at = reading.characters[number].tolist()
        best = max(
            (start[i] + end[j], i, j)
            for i in range(len(at))
            for j in range(i, min(i + LONGEST_ANSWER, len(at)))
            if at[i][0] >= 0 and at[j][0] >= 0
        )
        assert row == pytest.approx([number, best[0], at[best[1]][0], at[best[2]][1]])


def test_a_network_that_knows_answers_everything(data: Path) -> None:
    """Logits made of the targets: every answer is exact, whatever the windows."""
    task = load_task("squad")
    inputs, targets = task.test
    logits = torch.zeros(len(inputs), 2, inputs.shape[-1])
    rows = torch.arange(len(inputs))
    known = (targets[:, 0] > 0).float()
    logits[rows, 0, targets[:, 0]] = logits[rows, 1, targets[:, 1]] = 9 * known
    reading, exact = reading_of(task), task.also[0]
    rows = task.metric.measure(logits, targets)
    assert exact.sum_up(rows).item() == 100
    asked = {reading.question_of[number] for number in targets[:, 2].tolist()}
    best = [max(official_f1(reading.questions[n][1][0], meant) for meant in reading.questions[n][1]) for n in asked]
    assert task.metric.sum_up(rows).item() == pytest.approx(100 * sum(best) / len(best)), (
        "an article alone has no words"
    )
    measured = evaluate(task, task.model(0), task.test)
    assert 0 <= float(measured.also["exact match"] or 0) <= measured.value <= 100


def test_long_questions_are_cut(data: Path) -> None:
    vocabulary = read_vocabulary(data)
    asked = read(LAYOUT.paths(data)[0])[0][0]._replace(question="the cat " * 300)
    packed, _ = windows([asked], vocabulary, SIZES["tiny"], None)
    assert (packed[:, 1] == 0).sum(1).min() >= 64


def test_a_paragraph_is_on_one_side_of_the_split(data: Path) -> None:
    path = LAYOUT.paths(data)[0]
    task = load_task("squad")
    reading = reading_of(task)
    held_out = {reading.questions[reading.question_of[number]][0] for number in task.validation[1][:, 2].tolist()}
    train = sum(len(p) for p in read(path) if p[0].context not in held_out)
    assert f"({train} of {sum(map(len, read(path)))} training questions)" in task.summary


# What is refused


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("data"), r"data: Field required"),
        (lambda c: c["data"].clear(), "data: List should have at least 1 item"),
        (lambda c: c["data"][0].pop("paragraphs"), r"data\.0\.paragraphs: Field required"),
        (
            lambda c: c["data"][0]["paragraphs"][3]["qas"][1].update(answers=[]),
            r"data\.0\.paragraphs\.3\.qas\.1\.answers",
        ),
        (lambda c: c["data"][0]["paragraphs"][0].update(context=7), r".*context: Input should be a valid string"),
    ],
)
def test_another_layout_is_named_with_its_place(change: Callable[[Any], Any], said: str, data: Path) -> None:
    path = data / "squad" / "train-v1.1.json"
    rewrite(path, change)
    with pytest.raises(UserError, match=rf"train-v1.1.json is not SQuAD v1.1: {said}") as refused:
        load_task("squad")
    assert "\n" not in str(refused.value)


def test_truncated_files_are_named(data: Path) -> None:
    path = data / "squad" / "dev-v1.1.json.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"dev-v1.1.json.gz is no whole gzip file: .*get the file again"):
        load_task("squad")
    path.write_bytes(b"{" + whole)
    with pytest.raises(UserError, match=r"dev-v1.1.json.gz is no whole gzip file"):
        load_task("squad")
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-20]))
    with pytest.raises(UserError, match=r"dev-v1.1.json.gz is not SQuAD v1.1: the whole: Invalid JSON"):
        load_task("squad")


def test_a_file_that_unpacks_to_more_than_any_data_set_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.lab.tasks.files.LARGEST", 1000)
    with pytest.raises(UserError, match="holds more than"):
        load_task("squad")


def test_misplaced_answers_are_not_trained_on(data: Path) -> None:
    def move(content: Any) -> None:
        for paragraph in content["data"][0]["paragraphs"]:
            for question in paragraph["qas"]:
                question["answers"][0]["text"] = "zebra"

    rewrite(data / "squad" / "train-v1.1.json", move)
    with pytest.raises(UserError, match="SQuAD has 0 questions to train on"):
        load_task("squad")


@pytest.mark.skipif(not REAL, reason=f"{VARIABLE} names no folder with the real files")
def test_the_real_files_have_the_questions_of_the_paper() -> None:
    train, dev = map(read, LAYOUT.paths(Path(REAL or "")))
    assert (sum(map(len, train)), sum(map(len, dev))) == (87_599, 10_570)
    assert sum(len(asked.answers) for paragraph in dev for asked in paragraph) == 34_726
