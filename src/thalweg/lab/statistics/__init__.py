"""What a handful of runs can say: pure functions of arrays, which know nothing of studies."""
