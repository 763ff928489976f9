"""Bounds on what a network answers when each pixel may lie anywhere between two values (Gowal et al. 2018).

A network is read by torch.fx into a list of steps of few kinds; each step maps boxes to boxes, and CROWN goes through the same
list backwards. Bounds are computed in the numbers of the pictures, without directed rounding: who certifies does it in
float64 and asks for a margin above rounding (``surely_above``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

__all__ = [
    "Activation",
    "Affine",
    "Box",
    "Cat",
    "Map",
    "MaxPool",
    "Network",
    "Operation",
    "Step",
    "Sum",
    "cut_box",
    "interval_margins",
    "surely_above",
]

Map = Callable[[Tensor], Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Box:
    """Everything between two tensors (B, ...)."""

    lower: Tensor
    upper: Tensor

    @property
    def centre(self) -> Tensor:
        """Its middle."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half its width, not negative."""
        return (self.upper - self.lower) / 2


@dataclass(frozen=True)
class Affine:
    """``linear(x) + shift``; ``absolute`` is the same map with the absolute values of its weights."""

    linear: Map
    absolute: Map
    shift: Tensor | None = None
    weight: Tensor | None = None  # of a dense layer (K, D): differences of its outputs can be bounded as one output
    adjoint: Callable[[Tensor, tuple[int, ...]], Tensor] | None = None
    pointwise: bool = False  # each number by itself

    def apply(self, x: Tensor) -> Tensor:
        """The map at a point."""
        y = self.linear(x)
        return y if self.shift is None else y + self.shift

    def bound(self, box: Box) -> Box:
        """Exact for each output by itself."""
        centre, radius = self.apply(box.centre), self.absolute(box.radius)
        return Box(centre - radius, centre + radius)

    def back(self, coefficients: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The transposed map of (rows, outputs...) to (rows, ``shape``)."""
        if self.adjoint is not None:
            return self.adjoint(coefficients, (len(coefficients), *shape))
        with torch.enable_grad():
            origin = coefficients.new_zeros(len(coefficients), *shape, requires_grad=True)
            (found,) = torch.autograd.grad(self.linear(origin), origin, coefficients)
        return found


@dataclass(frozen=True)
class Activation:
    """A function of each number, which rises everywhere, or falls down to ``lowest`` and rises from there."""

    function: Map
    lowest: float | None = None
    leak: float | None = None  # x above 0, leak * x below: the kind that CROWN relaxes by lines

    def apply(self, x: Tensor) -> Tensor:
        """The function at a point."""
        return self.function(x)

    def bound(self, box: Box) -> Box:
        """Exact."""
        low, high = self.function(box.lower), self.function(box.upper)
        if self.lowest is None:
            return Box(low, high)
        bottom = self.function(torch.full_like(low, self.lowest))
        within = (box.lower <= self.lowest) & (box.upper >= self.lowest)
        return Box(torch.where(within, bottom, torch.minimum(low, high)), torch.maximum(low, high))


@dataclass(frozen=True)
class MaxPool:
    """The largest of each window; ``pool`` gives it, with the places in the flattened picture as torch counts them."""

    pool: Callable[[Tensor], tuple[Tensor, Tensor]]
    apart: bool = False  # no two windows share a pixel

    def apply(self, x: Tensor) -> Tensor:
        """The pooled values."""
        return self.pool(x)[0]

    def bound(self, box: Box) -> Box:
        """Exact."""
        return Box(self.apply(box.lower), self.apply(box.upper))


@dataclass(frozen=True)
class Sum:
    """The sum of two values, or their difference (``sign`` -1)."""

    sign: int

    def apply(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum at a point."""
        return x + self.sign * y

    def bound(self, first: Box, second: Box) -> Box:
        """Exact, the two being free of each other."""
        ends = (second.lower, second.upper) if self.sign > 0 else (-second.upper, -second.lower)
        return Box(first.lower + ends[0], first.upper + ends[1])


@dataclass(frozen=True)
class Cat:
    """Several values, one after the other."""

    dim: int

    def apply(self, *xs: Tensor) -> Tensor:
        """All at a point."""
        return torch.cat(xs, self.dim)

    def bound(self, *boxes: Box) -> Box:
        """Exact."""
        return Box(self.apply(*(box.lower for box in boxes)), self.apply(*(box.upper for box in boxes)))


Operation = Affine | Activation | MaxPool | Sum | Cat


@dataclass(frozen=True)
class Step:
    """One value of the network: made by ``operation`` of those numbered ``inputs``; of ``shape`` for one example."""

    name: str
    operation: Operation
    inputs: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """The steps in the order of computation. Value 0 is the picture, value i + 1 what step i makes; the last are the logits."""

    steps: tuple[Step, ...]
    shape: tuple[int, ...]

    def run(self, x: Tensor) -> Tensor:
        """Logits (B, K), as the network's own forward pass gives them."""
        last = self.steps[-1]
        return last.operation.apply(*self._towards_last(x, lambda step, given: step.operation.apply(*given)))

    def boxes(self, box: Box) -> list[Box]:
        """Boxes of what the last step is given, if the picture lies in ``box``."""
        return self._towards_last(box, lambda step, given: step.operation.bound(*given))

    def _towards_last(self, first: T, make: Callable[[Step, list[T]], T]) -> list[T]:
        """What the last step is given; each value is held until its last use."""
        wanted = {i: number for number, step in enumerate(self.steps) for i in step.inputs}
        values = {0: first}
        for number, step in enumerate(self.steps[:-1]):
            made = make(step, [values[i] for i in step.inputs])
            values = {i: value for i, value in values.items() if wanted[i] > number}
            if number + 1 in wanted:
                values[number + 1] = made
        return [values[i] for i in self.steps[-1].inputs]

    def margins(self, inputs: Sequence[Box], y: Tensor) -> Tensor:
        """(B, K) lower bounds of logit y minus logit k, 0 where k is y, by boxes of what the last step is given.

        A dense layer joins in the difference.
        """
        last = self.steps[-1]
        picked = y[:, None]
        if isinstance(last.operation, Affine) and last.operation.weight is not None:
            weight = last.operation.weight
            difference = weight[y][:, None] - weight  # (B, K, D)
            logits = last.operation.apply(inputs[0].centre)
            reach = (difference.abs() @ inputs[0].radius[:, :, None]).squeeze(2)
            return logits.gather(1, picked) - logits - reach
        box = last.operation.bound(*inputs)
        found = box.lower.gather(1, picked) - box.upper
        return found.scatter(1, picked, 0.0)


def interval_margins(network: Network, box: Box, y: Tensor) -> Tensor:
    """(B, K) lower bounds of logit y minus logit k over a box of pictures, by boxes at every layer."""
    return network.margins(network.boxes(box), y)


def cut_box(x: Tensor, eps: Tensor | float) -> Box:
    """Every picture in [0, 1] whose pixels differ from x by at most ``eps``, a number or (B,)."""
    reach = eps.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1)) if isinstance(eps, Tensor) else eps
    return Box((x - reach).clamp(min=0), (x + reach).clamp(max=1))


def surely_above(margins: Tensor, y: Tensor, allowance: Tensor) -> Tensor:
    """(B,) whether every other class stays below ``y`` by more than ``allowance`` (B,)."""
    others = margins.scatter(1, y[:, None], torch.inf)
    return (others > allowance[:, None]).all(1)
