"""Figures of a sweep, one file for each kind: a function from the chosen results to a matplotlib Figure. No torch.

A new file here with a function behind ``@KINDS.register("name")`` is a new kind, for the command line too.
"""

from advkit.results.figures._choice import Chosen, Series, choose
from advkit.results.figures._kinds import KINDS, build, draw, draw_all
from advkit.results.figures._paper import check_suffix

__all__ = ["KINDS", "Chosen", "Series", "build", "check_suffix", "choose", "draw", "draw_all"]
