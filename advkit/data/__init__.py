"""Data sets: labelled pictures in [0, 1], one file per source."""

from advkit.data.base import Data, Subset, TensorData
from advkit.data.load import load_data

__all__ = ["Data", "Subset", "TensorData", "load_data"]
