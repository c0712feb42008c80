"""The lab: fair comparisons of optimizers, stored as plain folders and shown as one report.

Nothing in `thalweg` imports this package but the command line; it needs the extra ``thalweg[lab]``.
"""
