"""Targets: values of a task's metric that runs are timed to, found by references with a larger budget and then frozen."""
