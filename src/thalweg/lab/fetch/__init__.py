"""`thalweg fetch`: the only command that downloads: a data set of the Hub, written as the files that tasks read."""

from thalweg.lab.fetch.command import command

__all__ = ["command"]
