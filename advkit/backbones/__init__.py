"""Networks by name, by file or by module; each on [0, 1] with its normalisation inside."""

from advkit.backbones.classifier import Classifier
from advkit.backbones.describe import Description, describe
from advkit.backbones.load import load_model
from advkit.backbones.weights import save_model

__all__ = ["Classifier", "Description", "describe", "load_model", "save_model"]
