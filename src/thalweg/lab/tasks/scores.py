"""Metrics of classifiers and regressions as benchmarks define them, in per cent; some are no mean over examples."""

import warnings

import torch
from torch import Tensor

from thalweg.lab.tasks.task import Metric, accuracy
from thalweg.lab.untyped import untyped


def classes(outputs: Tensor, labels: Tensor) -> Tensor:
    """The class found and the class meant of each row, (N, 2)."""
    return torch.stack([outputs.argmax(-1), labels], 1)


def numbers(outputs: Tensor, labels: Tensor) -> Tensor:
    """The number found and the number meant of each row, (N, 2)."""
    return torch.stack([outputs.squeeze(-1), labels], 1)


def matthews(rows: Tensor) -> Tensor:
    """φ = (TP·TN − FP·FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)), 0 where that is 0/0; scikit-learn's."""
    found, meant = rows.detach().cpu().unbind(1)
    return _percent(untyped("sklearn.metrics").matthews_corrcoef(meant, found))


def f1(rows: Tensor) -> Tensor:
    """F1 = 2TP / (2TP + FP + FN) of the class 1, 0 where that is 0/0; scikit-learn's."""
    found, meant = rows.detach().cpu().unbind(1)
    return _percent(untyped("sklearn.metrics").f1_score(meant, found, zero_division=0))


def pearson(rows: Tensor) -> Tensor:
    """Pearson's correlation; 0 if either side is constant."""
    return _correlation("pearsonr", rows)


def spearman(rows: Tensor) -> Tensor:
    """Spearman's rank correlation; 0 if either side is constant."""
    return _correlation("spearmanr", rows)


def _correlation(kind: str, rows: Tensor) -> Tensor:
    found, meant = rows.detach().cpu().double().unbind(1)
    if found.unique().numel() < 2 or meant.unique().numel() < 2:
        return _percent(0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that are nearly constant
        return _percent(getattr(untyped("scipy.stats"), kind)(found, meant).statistic)


def _percent(value: float) -> Tensor:
    return torch.tensor(100 * float(value), dtype=torch.float64)


ACCURACY = Metric("accuracy", "%", "max", margin=1.0, measure=accuracy)
MATTHEWS = Metric("Matthews correlation", "%", "max", margin=2.0, measure=classes, sum_up=matthews)
F1 = Metric("F1", "%", "max", margin=1.0, measure=classes, sum_up=f1)
SPEARMAN = Metric("Spearman correlation", "%", "max", margin=1.0, measure=numbers, sum_up=spearman)
PEARSON = Metric("Pearson correlation", "%", "max", margin=1.0, measure=numbers, sum_up=pearson)
