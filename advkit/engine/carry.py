"""What the stages of an ensemble hand on: for each example that stands, the point at which it stood least firmly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from advkit.engine.examples import Finished, Source

__all__ = ["Carry"]


class Carry:
    """Keeps the failures of former stages, by the example's place in the data; its memory is that of what stands."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[float, Tensor]] = {}

    def add(self, finished: Finished) -> None:
        """Look at what a stage has finished: what fell is forgotten, of what stands the highest margin is kept.

        At several radii an example is finished at several: it stands at the smaller ones, so what fell at a larger one
        leaves alone what is kept.
        """
        stands = ~finished.success.cpu()
        margins, points = finished.margin.cpu(), finished.x_adv.cpu()
        for row, place in enumerate(finished.example.tolist()):
            if stands[row] and (place not in self._kept or float(margins[row]) > self._kept[place][0]):
                self._kept[place] = (float(margins[row]), points[row].clone())

    def keep(self, places: Tensor) -> None:
        """Forget all but these examples, (B,)."""
        wanted = set(places.tolist())
        self._kept = {place: kept for place, kept in self._kept.items() if place in wanted}

    def into(self, source: Source, places: Tensor) -> Source:
        """The source whose examples, (N,) places in the data, begin where they stood least firmly; clean where unknown."""

        def first(indices: Sequence[int]) -> Tensor:
            here = [int(places[index]) for index in indices]
            clean = source.fetch(indices) if any(place not in self._kept for place in here) else None
            rows = [
                self._kept[place][1] if clean is None or place in self._kept else clean[row].cpu()
                for row, place in enumerate(here)
            ]
            return torch.stack(rows)

        return replace(source, first=first)
