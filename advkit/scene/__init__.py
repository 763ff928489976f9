"""The physical world: print, place, light, view; pure differentiable functions of tensors, one example a row."""
