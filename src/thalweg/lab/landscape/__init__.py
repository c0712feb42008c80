"""`thalweg landscape`: the trajectories of several optimizers in one shared plane, over the loss in that plane."""

from thalweg.lab.landscape.command import command

__all__ = ["command"]
