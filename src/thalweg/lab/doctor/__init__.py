"""`thalweg doctor`: what is installed and found, and what to do about what is not."""

from thalweg.lab.doctor.command import command

__all__ = ["command"]
