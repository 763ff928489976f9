"""Linf radii from lower bounds of margins: the search that interval bounds and CROWN share."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from advkit.core.defense import Certificate
from advkit.defenses._bounds import Box, Network, cut_box, surely_above
from advkit.defenses._reading import read_network
from advkit.errors import InputError, ModelError

__all__ = ["Margins", "certify_linf", "check_search"]

Margins = Callable[[Network, Box, Tensor], Tensor]
"""(B, K) lower bounds of logit y minus logit k over a box."""


def check_search(name: str, eps: float, halvings: int) -> None:
    """Refuse settings that make no sense."""
    if not 0 <= eps <= 1:
        raise InputError(f"{name}: eps is {eps}; give a number from 0 (the largest that can be certified) to 1.")
    if not 1 <= halvings <= 52:
        raise InputError(f"{name}: halvings is {halvings}; give a whole number from 1 to 52.")


def certify_linf(
    model: nn.Module, x: Tensor, batch_size: int, margins: Margins, eps: float, halvings: int
) -> Certificate:
    """Certificates about the model's own answers: at ``eps``, or at the largest radius found by halving (``eps`` 0).

    Bounds are computed on a float64 copy of the network. A radius counts only if every other class stays below by more than
    the network's own rounding. Radius 1 is every picture.
    """
    parts = [_part(model, rows, margins, eps, halvings) for rows in torch.split(x, max(1, batch_size))]
    return Certificate(*(torch.cat([part[i] for part in parts]) for i in range(3)))


def _part(model: nn.Module, x: Tensor, margins: Margins, eps: float, halvings: int) -> Certificate:
    with torch.no_grad():
        answered = model(x)
    y, exact = answered.argmax(1), x.detach().double()
    network = read_network(copy.deepcopy(model).double(), exact)
    with torch.no_grad():
        logits = network.run(exact)
    if bool(((logits - answered).abs() > 1e-3 * logits.abs().amax(1, keepdim=True)).any()):
        raise ModelError(
            f"the layers read from {type(model).__name__} answer otherwise than it does; its forward pass depends on "
            "more than the picture, or computes in less than 32 bits."
        )

    def holds(radius: Tensor) -> Tensor:
        return surely_above(margins(network, cut_box(exact, radius), y), y, logits, x.dtype)

    one = torch.ones(len(x), dtype=torch.float64, device=x.device)
    forwards = torch.ones_like(y)
    if eps:
        return Certificate(y, torch.where(holds(eps * one), eps, 0 * one), forwards + 1)
    # No radius is tried twice, and every radius that is kept was certified itself: bounds need not be monotone.
    everything = holds(one)
    low, high = 0 * one, one.clone()
    for _ in range(halvings):
        middle = (low + high) / 2
        held = holds(middle)
        low, high = torch.where(held, middle, low), torch.where(held, high, middle)
    return Certificate(y, torch.where(everything, one, low), forwards + 1 + halvings)
