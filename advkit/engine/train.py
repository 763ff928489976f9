"""Train a network on a data set: one loop, the objective is the defense. (Its parts are in ``advkit.engine.training``.)"""

from __future__ import annotations

from advkit.engine.training import (
    ALONE,
    CHECKPOINT,
    Epoch,
    Ranks,
    Recipe,
    Scores,
    Training,
    Validate,
    ball_of,
    joined,
    learning_rate,
    robustness,
    shifted,
    train,
)

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
