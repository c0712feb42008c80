"""Expected best of k trials: what tuning with a smaller budget would have come to."""

import numpy as np

from thalweg.lab.statistics.paired import Values


def expected_best(values: Values) -> Values:
    """Return the expected best of k = 1 … B values drawn from B with replacement.

        E max(v₁ … vₖ) = Σᵢ v₍ᵢ₎ [(i / B)ᵏ − ((i − 1) / B)ᵏ],   v₍₁₎ ≤ … ≤ v₍B₎

    Args:
        values: Oriented values of the trials, all finite.

    Source: Dodge et al. 2019, arXiv:1909.03004, sect. 3 (expected validation performance), its equation with the empirical
    distribution for P(V ≤ v).
    """
    ordered = np.sort(values)
    rank = np.arange(len(ordered) + 1) / len(ordered)
    below = rank ** np.arange(1, len(ordered) + 1)[:, None]  # P(max ≤ v₍ᵢ₎), a row for each k
    return np.diff(below, axis=1) @ ordered
