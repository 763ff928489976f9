"""The loops: run an attack, evaluate a model, measure what it costs."""
