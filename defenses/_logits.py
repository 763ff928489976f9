"""Logits as losses want them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["wide"]


def wide(logits: Tensor) -> Tensor:
    """Logits in float32 at least: autocast leaves those of 16 bits as they are on the CPU, where 1.0001 would be 1."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
