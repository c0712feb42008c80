"""`thalweg race`: optimizers on surfaces of two variables, as an animated page and a GIF."""

from thalweg.lab.race.command import command

__all__ = ["command"]
