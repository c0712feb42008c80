"""Performance profiles: on which part of the problems an optimizer is within a factor τ of the fastest.

    r = T / min over optimizers of T,   ρ(τ) = share of problems with r ≤ τ

A problem is one target of one task on one seed; tasks weigh equally. A problem that an optimizer misses counts for no τ.

Source: Dolan & Moré 2002, arXiv:cs/0102001, sect. 2; the area under ρ up to `MOST` as in AlgoPerf, arXiv:2306.07179,
here under ρ over log τ, as it is drawn.
"""

import numpy as np

from thalweg.lab.statistics.paired import Values

MOST = 4.0
"""Largest τ of figure and area, AlgoPerf's."""
TAUS = np.geomspace(1, MOST, 201)


def ratios(times: Values) -> Values:
    """Return r, one row an optimizer, one column a problem; ∞ for a miss, also where everybody misses.

    Args:
        times: T, ∞ for a miss.
    """
    fastest = times.min(0)
    known = np.isfinite(fastest) & (fastest > 0)
    slower = np.divide(times, fastest, out=np.full_like(times, np.inf), where=known)
    return np.where(np.isfinite(times) & (times == fastest), 1.0, slower)


def profile(row: Values, weights: Values) -> list[tuple[float, float]]:
    """Return (τ, ρ) of an optimizer's profile at the `TAUS`.

    Args:
        row: Its ratios.
        weights: Of the problems, summing to 1.
    """
    order = np.argsort(row)
    reached = np.concatenate([[0.0], np.cumsum(weights[order])])
    parts = reached[np.searchsorted(row[order], TAUS, side="right")]
    return list(zip(TAUS.tolist(), parts.tolist(), strict=True))


def area(row: Values, weights: Values) -> float:
    """Return the area under ρ over log τ from 1 to `MOST`, as part of the whole: Σ weight · max(0, 1 − ln r / ln MOST)."""
    return float(weights @ np.clip(1 - np.log(row) / np.log(MOST), 0, None))
