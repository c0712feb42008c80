"""What a handful of runs can say: pure functions of arrays, which know nothing of studies."""

from thalweg.lab.untyped import untyped

scipy = untyped("scipy")
"""It imports its parts when they are used; to import scipy.stats at once would make every command a second slower to start."""
