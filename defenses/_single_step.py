"""What methods of a single step share: one gradient, and no pass to judge what comes of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.core.modes import borrowed

__all__ = ["input_gradient"]


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each picture's own cross-entropy, (B, C, H, W); the model is in eval mode and left as it was."""
    with borrowed(model):
        points = x.detach().clone().requires_grad_()
        # The sum, not the mean: a picture's gradient must not depend on the size of the batch.
        (grad,) = torch.autograd.grad(F.cross_entropy(model(points), y, reduction="sum"), points)
    return grad
