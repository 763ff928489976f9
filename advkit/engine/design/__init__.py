"""Design one physical sticker: where it is seen, where it may stick, the search, and how often it succeeds."""

from advkit.engine.design.masks import SHAPES, mask_of
from advkit.engine.design.optimise import COLOURS, PRESETS, Found, Recipe, auto_mask, optimise
from advkit.engine.design.score import score
from advkit.engine.design.stage import OnPhotos, OnSign, Seen, Stage, rendered
from advkit.results.sticker import Score

__all__ = [
    "COLOURS",
    "PRESETS",
    "SHAPES",
    "Found",
    "OnPhotos",
    "OnSign",
    "Recipe",
    "Score",
    "Seen",
    "Stage",
    "auto_mask",
    "mask_of",
    "optimise",
    "rendered",
    "score",
]
