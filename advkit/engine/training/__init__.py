"""Training: one loop for every objective, resumable to the bit, on one process or several."""

from __future__ import annotations

from advkit.engine.training.augment import shifted
from advkit.engine.training.loop import CHECKPOINT, Training, train
from advkit.engine.training.ranks import ALONE, Ranks, joined
from advkit.engine.training.recipe import Recipe, learning_rate
from advkit.engine.training.watch import Epoch, Scores, Validate, ball_of, robustness

__all__ = [
    "ALONE",
    "CHECKPOINT",
    "Epoch",
    "Ranks",
    "Recipe",
    "Scores",
    "Training",
    "Validate",
    "ball_of",
    "joined",
    "learning_rate",
    "robustness",
    "shifted",
    "train",
]
