"""Lower bounds of linear functions of a network's values, by lines followed back to the picture (Zhang et al. 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advkit.defenses._bounds import Activation, Affine, Box, MaxPool, Network, Sum

__all__ = ["crown_margins"]

_NUMBERS = 1 << 24  # of coefficients held at once


def crown_margins(network: Network, box: Box, y: Tensor, every_neuron: bool = True) -> Tensor:
    """(B, K) lower bounds of logit y minus logit k over a box of pictures; never below those of boxes.

    ReLUs that are neither on nor off everywhere are put between two lines, of which the lower has slope 0 or 1, whichever
    leaves less between them. Other activations and max-pooling are put between constants, the winner of a window aside
    where it is known. ``every_neuron`` bounds what enters them in the same way, not by boxes alone.
    """
    boxes = [box]
    bent = {i for step in network.steps if isinstance(step.operation, Activation | MaxPool) for i in step.inputs}
    plain = {0}  # values whose boxes are exact already
    for number, step in enumerate(network.steps, 1):
        found = step.operation.bound(*(boxes[i] for i in step.inputs))
        first = isinstance(step.operation, Affine) and step.inputs[0] in plain
        if first and isinstance(step.operation, Affine) and step.operation.pointwise:
            plain.add(number)
        boxes.append(found)
        if every_neuron and number in bent and not first:
            boxes[number] = _refined(network, boxes, number, found)
    classes = torch.eye(network.steps[-1].shape[0], dtype=box.lower.dtype, device=box.lower.device)
    rows = classes[y][:, None] - classes
    inputs = [boxes[i] for i in network.steps[-1].inputs]
    return torch.maximum(_lower(network, boxes, len(network.steps), rows), network.margins(inputs, y))


def _refined(network: Network, boxes: list[Box], number: int, box: Box) -> Box:
    """The box of a value, tightened where its numbers may be of either sign."""
    low, high = box.lower.flatten(1), box.upper.flatten(1)
    open_ = (low < 0) & (high > 0)
    places = open_.any(0).nonzero().squeeze(1)
    if not len(places):
        return box
    shape = box.lower.shape[1:]
    at_once = max(1, _NUMBERS // (2 * len(low) * max(math.prod(s.shape) for s in network.steps[:number])))
    for part in torch.split(places, at_once):
        unit = torch.nn.functional.one_hot(part, low.shape[1]).to(low)
        rows = torch.cat([unit, -unit]).reshape(1, -1, *shape).expand(len(low), -1, *shape)
        below, above = _lower(network, boxes, number, rows).chunk(2, 1)
        mine = open_[:, part]
        low = low.index_copy(1, part, torch.where(mine, torch.maximum(below, low[:, part]), low[:, part]))
        high = high.index_copy(1, part, torch.where(mine, torch.minimum(-above, high[:, part]), high[:, part]))
    # Rounding may cross the ends of a box of no width.
    return Box(torch.minimum(low, high).reshape(-1, *shape), torch.maximum(low, high).reshape(-1, *shape))


def _lower(network: Network, boxes: list[Box], number: int, rows: Tensor) -> Tensor:
    """(B, S) lower bounds of the linear functions ``rows`` (B, S, ...) of value ``number``."""
    pending = {number: rows}
    total = rows.new_zeros(rows.shape[:2])
    for value in range(number, 0, -1):
        if value not in pending:
            continue
        a, step = pending.pop(value), network.steps[value - 1]
        operation, source = step.operation, step.inputs[0]
        box = boxes[source]
        if isinstance(operation, Affine):
            if operation.shift is not None:
                total = total + _dot(a, operation.shift.expand(1, *step.shape))
            shape = tuple(box.lower.shape[1:])
            back = operation.back(a.flatten(0, 1), shape).reshape(*a.shape[:2], *shape)
            passed = [(source, back)]
        elif isinstance(operation, Activation) and operation.leak is not None:
            slope, shift, under = _lines(box, operation.leak)
            up, down = a.clamp(min=0), a.clamp(max=0)
            total = total + _dot(down, shift[:, None])
            passed = [(source, up * under[:, None] + down * slope[:, None])]
        elif isinstance(operation, Activation):
            total = total + _held(a, boxes[value])
            passed = []
        elif isinstance(operation, MaxPool):
            constant, coefficients = _pooled(operation, box, a)
            total = total + constant
            passed = [(source, coefficients)]
        elif isinstance(operation, Sum):
            passed = [(source, a), (step.inputs[1], operation.sign * a)]
        else:
            sizes = [boxes[i].lower.shape[operation.dim] for i in step.inputs]
            passed = list(zip(step.inputs, torch.split(a, sizes, operation.dim + 1), strict=True))
        for i, coefficients in passed:
            pending[i] = pending[i] + coefficients if i in pending else coefficients
    return total + _held(pending[0], boxes[0]) if 0 in pending else total


def _dot(a: Tensor, x: Tensor) -> Tensor:
    """(B, S) sums of products over all but the first two axes."""
    return (a * x).flatten(2).sum(2)


def _held(a: Tensor, box: Box) -> Tensor:
    """(B, S) the least of a's functions over a box."""
    return _dot(a.clamp(min=0), box.lower[:, None]) + _dot(a.clamp(max=0), box.upper[:, None])


def _lines(box: Box, leak: float) -> tuple[Tensor, Tensor, Tensor]:
    """Slope and height of the line above, and slope of the line through 0 below, of a (leaky) ReLU over a box."""
    low, high = box.lower, box.upper
    width = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
    across = (high - leak * low) / width
    on, off = low >= 0, high <= 0
    slope = torch.where(on, 1.0, torch.where(off, leak, across))
    shift = torch.where(on | off, 0.0, high * (1 - across))
    under = torch.where(on | (~off & (high > -low)), 1.0, leak)
    return slope, shift, under


def _pooled(operation: MaxPool, box: Box, a: Tensor) -> tuple[Tensor, Tensor]:
    """Constants (B, S) and coefficients of the input, for functions ``a`` of the largest of each window."""
    least, places = operation.pool(box.lower)
    most = operation.apply(box.upper)
    known = torch.zeros_like(places, dtype=torch.bool)
    if operation.apart:
        # With the winner taken out, the window's other numbers; where windows overlap, those of others would go too.
        others = box.upper.flatten(2).scatter(2, places.flatten(2), -torch.inf).reshape(box.upper.shape)
        known = operation.apply(others) <= least
    up, down = a.clamp(min=0), a.clamp(max=0)
    onto_winner = torch.where(known[:, None], a, up)
    constant = _dot(torch.where(known[:, None], 0.0, down), most[:, None])
    where = places[:, None].expand_as(a).flatten(3)
    empty = a.new_zeros(*a.shape[:3], box.lower.shape[2] * box.lower.shape[3])
    return constant, empty.scatter_add(3, where, onto_winner.flatten(3)).reshape(*a.shape[:2], *box.lower.shape[1:])
