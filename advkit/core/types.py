"""Shapes and trees. The legend for all of core, attacks and engine:

B  batch: rows of a tensor, one example each          N  all examples of a run
K  classes                                             P  probes: points asked at once for one example
x  pictures (B, C, H, W), or any (B, ...), in [0, 1]   labels, classes  (B,) int64
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["expand", "join", "rows", "tree_map"]

Tree = Any
"""A tensor whose first axis is the example, None, or a (named) tuple of trees: the state of an attack."""


def tree_map(function: Callable[..., Tensor], *trees: Tree) -> Tree:
    """Apply a function to the tensors of equally shaped trees."""
    first = trees[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return function(*trees)
    parts = [tree_map(function, *branches) for branches in zip(*trees, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def rows(tree: Tree, index: Tensor | slice) -> Tree:
    """The rows ``index`` of every tensor of a tree."""
    return tree_map(lambda t: t[index], tree)


def join(first: Tree, second: Tree) -> Tree:
    """The rows of two trees, one below the other."""
    return tree_map(lambda a, b: torch.cat([a, b]), first, second)


def expand(values: Tensor, like: Tensor) -> Tensor:
    """Per-example values (B,) shaped to broadcast against ``like`` (B, ...)."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))
