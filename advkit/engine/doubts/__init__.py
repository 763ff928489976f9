"""Reasons not to believe an evaluation's numbers that it shows by itself, or with a few passes more (P1 to P20).

``found`` compares what attacks found, example by example, at no cost; ``asked`` asks the model a few things about the first
pictures, at a price far below that of the attacks. ``advkit.engine.protocol`` makes the checks that take long attacks of
their own.
"""

from advkit.engine.doubts.find import Doubts, find_doubts
from advkit.engine.doubts.look import Met

__all__ = ["Doubts", "Met", "find_doubts"]
