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


def test_the_colours_are_the_palette_s_at_every_step_and_the_gradient_that_of_their_mean():
    palette = Palette.of("tape")
    paint = FromPalette(Cells(8, 2), palette)
    theta = paint.start(STREAM).requires_grad_()
    shown = paint.colours(theta, 0.5)
    assert torch.equal(shown, paint.settled(theta))
    weight = torch.arange(3 * 64.0).reshape(3, 8, 8)
    (grad,) = torch.autograd.grad((shown * weight).sum(), theta)
    mean = torch.einsum("nyx,nc->cyx", (theta / 0.5).softmax(0), palette.colours)
    (wanted,) = torch.autograd.grad((paint.cells.spread(mean) * weight).sum(), theta)
    assert torch.allclose(grad, wanted)
    assert bool((grad != 0).any())


def test_every_paint_can_be_followed():
    for paint in (FromPalette(Cells(8, 2), Palette.of("tape")), Free(Cells(8, 2)), Free(Cells(8), "clamp")):
        theta = paint.start(STREAM).requires_grad_()
        shown = paint.colours(theta, 1.0)
        assert shown.shape == (3, 8, 8)
        assert bool(((shown >= 0) & (shown <= 1)).all())
        (grad,) = torch.autograd.grad((shown * torch.arange(8.0)).sum(), theta)
        assert bool((grad != 0).any())


def test_a_start_is_that_of_its_stream():
    paint = Free(Cells(8, 2))
    assert torch.equal(paint.start(STREAM), paint.start(Rng.of(0, torch.tensor([7]))))
    assert not torch.equal(paint.start(STREAM), paint.start(Rng.of(1, torch.tensor([7]))))


def test_the_temperature_falls_by_equal_factors():
    path = [annealed(k / 10) for k in range(11)]
    assert path[0] == pytest.approx(1.0)
    assert path[-1] == pytest.approx(0.3)
    assert path == sorted(path, reverse=True)


def test_cells_that_are_too_large_are_refused():
    with pytest.raises(InputError, match="square of 750 mm"):
        Cells.at_least(800.0, 750.0, 64)
