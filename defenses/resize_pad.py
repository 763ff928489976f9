"""Random resizing and padding in front of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import RandomWrapper
from advkit.core.rng import Rng
from advkit.defenses._pixels import check_draws, check_share, taken
from advkit.errors import InputError


@DEFENSES.register("resize-pad", paper="arXiv:1711.01991")
@dataclass(frozen=True)
class ResizePad(RandomWrapper):
    """Each picture at a random size in a random place on grey (Xie et al. 2018).

    Xie enlarges 299 pixels to 299...330 within 331; here the picture shrinks by as much, since the model's input keeps its
    size. Nearest pixels, and grey 0.5 as there. Claimed against attacks at 0.031 on ImageNet: 0 % under EOT (Athalye et
    al. 2018).
    """

    smallest: float = 299 / 331  # side, as a fraction
    fill: float = 0.5

    def __post_init__(self) -> None:
        check_draws("resize-pad", self.draws, self.eot)
        check_share("resize-pad", "smallest", self.smallest)
        if not 0 <= self.fill <= 1:
            raise InputError(f"resize-pad: fill is {self.fill}; give a grey from 0 to 1.")

    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        """Every size from the smallest to the whole is as likely, then every place at which it fits."""
        height, width = x.shape[-2:]
        least = max(1, round(self.smallest * width))
        wide = least + rng.fold("side").integers(width - least + 1)
        high = ((2 * wide * height + width) // (2 * width)).clamp(min=1)
        rows, inside_rows = _source(high, height, rng.fold("row"))
        columns, inside_columns = _source(wide, width, rng.fold("column"))
        inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
        return torch.where(inside, taken(x, rows, columns), torch.full_like(x, self.fill))


def _source(side: Tensor, size: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Which of ``size`` pixels, squeezed into ``side`` (B,), each place shows, and whether it shows one: both (B, size)."""
    start = rng.integers(size - side + 1)
    places = torch.arange(size, device=side.device) - start[:, None]
    inside = (places >= 0) & (places < side[:, None])
    return (places * size // side[:, None]).clamp(0, size - 1), inside
