"""Cells: never smaller than asked, and colours that can be printed by construction."""

from __future__ import annotations

import pytest
import torch

from advkit.core.rng import Rng
from advkit.errors import InputError
from advkit.scene.cells import Cells, Free, FromPalette, annealed
from advkit.scene.printing import Palette, nps, printed

STREAM = Rng.of(0, torch.tensor([7]))


@pytest.mark.parametrize(("cell_mm", "size"), [(5.0, 128), (30.0, 128), (23.4375, 128), (100.0, 37), (0.0, 64)])
def test_no_whole_cell_is_narrower_than_asked(cell_mm: float, size: int):
    cells = Cells.at_least(cell_mm, 750.0, size)
    assert cells.cell * 750 / size >= cell_mm - 1e-6
    assert cells.cell == 1 or (cells.cell - 1) * 750 / size < cell_mm
    values = torch.arange(cells.count**2, dtype=torch.float32).reshape(cells.count, cells.count)
    spread = cells.spread(values)
    assert spread.shape == (size, size)
    assert torch.equal(spread[:: cells.cell, :: cells.cell], values)
    assert len(torch.unique(spread[: cells.cell, : cells.cell])) == 1


def test_a_sticker_of_palette_colours_can_be_printed_as_it_is():
    palette = Palette.of("ink")
    paint = FromPalette(Cells(32, 4), palette)
    settled = paint.settled(paint.start(STREAM))[None]
    mask = torch.ones(32, 32)
    assert float(nps(settled, palette, mask)) == 0
    assert torch.equal(printed(settled, mask, "snap", palette), settled)
    assert len(torch.unique(settled.flatten(2), dim=2)[0].T) > 2


def test_as_it_cools_the_mean_of_the_palette_becomes_one_of_its_colours():
    paint = FromPalette(Cells(8, 2), Palette.of("tape"))
    theta = 20 * paint.start(STREAM)
    gap = [float((paint.colours(theta, t) - paint.settled(theta)).abs().max()) for t in (1.0, 0.1, 0.001)]
    assert gap[0] > gap[1] >= gap[2]
    assert gap[2] < 1e-3


def test_every_paint_can_be_followed():
    for paint in (FromPalette(Cells(8, 2), Palette.of("tape")), Free(Cells(8, 2)), Free(Cells(8), "clamp")):
        theta = paint.start(STREAM).requires_grad_()
        shown = paint.colours(theta, 1.0)
        assert shown.shape == (3, 8, 8)
        assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
        (grad,) = torch.autograd.grad((shown * torch.arange(8.0)).sum(), theta)
        assert bool((grad != 0).any())


def test_a_start_is_that_of_its_stream():
    paint = Free(Cells(8, 2))
    assert torch.equal(paint.start(STREAM), paint.start(Rng.of(0, torch.tensor([7]))))
    assert not torch.equal(paint.start(STREAM), paint.start(Rng.of(1, torch.tensor([7]))))


def test_the_temperature_falls_from_one_to_a_tenth():
    path = [annealed(k / 10) for k in range(11)]
    assert path[0] == pytest.approx(1.0)
    assert path[-1] == pytest.approx(0.1)
    assert path == sorted(path, reverse=True)


def test_cells_that_are_too_large_are_refused():
    with pytest.raises(InputError, match="sign of 750 mm"):
        Cells.at_least(800.0, 750.0, 64)
