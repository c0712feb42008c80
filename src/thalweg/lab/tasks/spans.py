"""Answers as spans of a text, and their exact match and F1 as SQuAD's official evaluation, evaluate-v1.1.py, has them."""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

LONGEST_ANSWER = 30
"""Tokens, as in BERT's code (Devlin et al. 2018)."""
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Lower-case, without ASCII punctuation and the articles a, an, the; words one space apart."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(found: str, meant: str) -> float:
    """1 if both are the same once normalized, else 0."""
    return float(normalized(found) == normalized(meant))


def f1(found: str, meant: str) -> float:
    """F1 = 2PR / (P + R) of the words they share, each as often as both have it; 0 without one."""
    words, wanted = normalized(found).split(), normalized(meant).split()
    shared = sum((Counter(words) & Counter(wanted)).values())
    return 2 * shared / (len(words) + len(wanted)) if shared else 0.0


class Reading:
    """Texts with the answers that count, and the windows through which a network sees them."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, Sequence[str]]] = []
        """Text and answers."""
        self.question_of: list[int] = []
        """The question of each window."""
        self.characters: list[Tensor] = []
        """Begin and end of each token of a window in the text, (T, 2); −1 for what is no part of it."""

    def add(self, text: str, answers: Sequence[str], windows: Iterable[Sequence[tuple[int, int]]]) -> list[int]:
        """Add a question with all its windows; return the numbers that these get."""
        first = len(self.question_of)
        self.characters += [torch.tensor(window) for window in windows]
        self.question_of += [len(self.questions)] * (len(self.characters) - first)
        self.questions.append((text, answers))
        return list(range(first, len(self.characters)))

    def best_spans(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Find the best span of each window.

        ``argmax of start_i + end_j,  i ≤ j < i + 30``, both tokens of the text.

        Args:
            logits: of the first and the last token, (N, 2, T).
            targets: whose last column is the window's number, (N, …).

        Returns:
            the window's number, the best sum, and the span's begin and end in the text, (N, 4).
        """
        numbers = cast(list[int], targets[:, -1].tolist())
        characters = torch.stack([self.characters[number] for number in numbers])
        start, end = logits.detach().double().cpu().unbind(1)
        text = characters[:, :, 0] >= 0
        start, end = (part.masked_fill(~text, -torch.inf) for part in (start, end))
        sums = start[:, :, None] + end[:, None, :]
        length = sums.shape[-1]
        allowed = torch.ones(length, length, dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
        best, place = sums.masked_fill(~allowed, -torch.inf).flatten(1).max(1)
        rows = torch.arange(len(numbers))
        begins = characters[rows, place // length, 0]
        ends = characters[rows, place % length, 1]
        return torch.stack([torch.tensor(numbers).double(), best, begins.double(), ends.double()], 1)

    def answers(self, rows: Tensor) -> dict[int, str]:
        """Return the answer to each question: the best span of all its windows."""
        best: dict[int, tuple[float, int, int]] = {}
        for window, score, begin, end in cast(list[list[float]], rows.tolist()):
            question = self.question_of[int(window)]
            if question not in best or score > best[question][0]:
                best[question] = score, int(begin), int(end)
        return {question: self.questions[question][0][begin:end] for question, (_, begin, end) in best.items()}

    def mean(self, score: Callable[[str, str], float]) -> Callable[[Tensor], Tensor]:
        """Return what gives spans their score in per cent: for each question its best over the answers that count."""

        def sum_up(rows: Tensor) -> Tensor:
            found = self.answers(rows)
            best = [max(score(answer, meant) for meant in self.questions[n][1]) for n, answer in found.items()]
            return torch.tensor(100 * sum(best) / len(best), dtype=torch.float64)

        return sum_up
