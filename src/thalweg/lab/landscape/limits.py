"""How many snapshots are kept, so that memory stays bounded."""

from thalweg.lab.errors import UserError

MOST, FEWEST = 50, 8
"""Snapshots of a run, after the first."""
BYTES = 2 << 30
"""Of all snapshots together."""


def snapshots(parameters: int, runs: int) -> int:
    """Return how many float32 snapshots of each run fit into `BYTES`, at most `MOST`.

    Raises:
        UserError: fewer than `FEWEST` do.
    """
    fit = BYTES // (4 * parameters * runs) - 1
    if fit < FEWEST:
        raise UserError(
            f"-o names {runs} optimizers of {parameters:,} parameters, whose snapshots do not fit into {BYTES >> 30} GiB;"
            " name fewer."
        )
    return min(MOST, fit)
