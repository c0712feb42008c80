"""`thalweg bench`: what an optimizer step costs, always beside torch's own.

models.py      the two reference models, as parameters without a forward pass
subjects.py    who is timed: ours, torch's twins, other libraries (data, one line each)
timing.py      interleaved rounds, ratios with their spread
memory.py      peak temporary memory of one step, from the allocator's own records
compiling.py   compile time cold and warm, recompiles in steady state, each in a fresh process
result.py      what a run of the bench found, as data and as JSON
show.py        the same as a table in the terminal and as Markdown
measure.py     the order of a run
command.py     the command line
"""

from thalweg.lab.bench.command import command

__all__ = ["command"]
