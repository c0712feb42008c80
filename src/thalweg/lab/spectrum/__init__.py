"""`thalweg spectrum`: train a task and watch the Hessian's spectrum against the optimizer's stability threshold."""

from thalweg.lab.spectrum.command import command

__all__ = ["command"]
