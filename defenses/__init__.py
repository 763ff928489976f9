"""Defenses, one file per method: objectives to train with, wrappers to stand in front of a model, certifiers."""
