"""Shared studies: many processes and machines work on one study through an Optuna storage (``--store URL``).

A shared study is an Optuna study named ``thalweg-HASH``; a run is a trial of it. What a run is, which are ready, and what
a result means is the same as in a study folder: here is only who does what. From the ground up:

- `address`: where a storage is, said without its password.
- `ledger`: the trials of one shared study, a few operations, each atomic.
- `claims`: one worker a run: the protocol, and what it can and cannot lose.
- `beats`: signs of life, and who has stopped giving any.
- `board`: the runs of a shared study, for `thalweg.lab.execution.workers.run_from`.
- `fetch`: finished runs, written as the plain folders that everything else reads.
- `slurm`: workers as jobs of a cluster.
- `command`: ``thalweg worker``.
"""
