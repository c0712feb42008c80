"""`thalweg verify`: published and measured references done again, each as ours, reference, tolerance, pass.

A reference is a line of data; what it measures is a function of the file it names.
"""

from thalweg.lab.verify.command import command

__all__ = ["command"]
