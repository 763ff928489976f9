"""Colours on paper: the palettes, the non-printability score and its gradient, and the models of print."""

from __future__ import annotations

import pytest
import torch

from advkit.core.rng import Rng
from advkit.errors import InputError
from advkit.scene.printing import PALETTES, Palette, nps, printed, total_variation

GENERATOR = torch.Generator


def colours(seed: int = 0, count: int = 2, size: int = 6) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=GENERATOR().manual_seed(seed), dtype=torch.float64)


def streams(*ids: int) -> Rng:
    return Rng.of(0, torch.tensor(ids))


WHOLE = torch.ones(6, 6)


@pytest.mark.parametrize("name", PALETTES)
def test_what_is_made_of_the_palette_scores_nothing_and_what_is_not_scores_more(name: str):
    palette = Palette.of(name)
    chosen = palette.nearest(colours())
    for form in ("min", "product"):
        assert torch.equal(nps(chosen, palette, WHOLE, form), torch.zeros(2, dtype=torch.float64))  # type: ignore[arg-type]
    moved = chosen.clone()
    moved[1, 0, 3, 3] = 0.99
    assert nps(moved, palette, WHOLE)[0] == 0
    assert nps(moved, palette, WHOLE)[1] > 0


def test_the_gradient_has_length_one_for_each_pixel_off_the_palette():
    rgb = colours().requires_grad_()
    (grad,) = torch.autograd.grad(nps(rgb, Palette.of("rp2"), WHOLE).sum() * WHOLE.numel(), rgb)
    assert torch.allclose(grad.norm(dim=1), torch.ones(2, 6, 6, dtype=torch.float64), atol=1e-3)


def test_the_gradient_is_a_number_where_a_colour_is_printable():
    rgb = Palette.of("ink").nearest(colours()).requires_grad_()
    for form in ("min", "product"):
        (grad,) = torch.autograd.grad(nps(rgb, Palette.of("ink"), WHOLE, form).sum(), rgb)  # type: ignore[arg-type]
        assert bool(grad.isfinite().all())


def test_what_is_outside_the_mask_counts_for_nothing():
    mask = torch.zeros(6, 6)
    mask[2:4, 1:5] = 1
    one, other = colours(0), colours(1)
    mixed = torch.where(mask > 0, one, other)
    palette = Palette.of("rp2")
    for form in ("min", "product"):
        assert torch.equal(nps(one, palette, mask, form), nps(mixed, palette, mask, form))  # type: ignore[arg-type]
    assert torch.equal(total_variation(one, mask), total_variation(mixed, mask))


def test_the_product_form_calls_grey_printable_and_has_no_gradient_there():
    grey = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64, requires_grad=True)
    value = nps(grey, Palette.of("rp2"), torch.ones(2, 2), "product")
    (grad,) = torch.autograd.grad(value.sum(), grey)
    assert 1e-14 < float(value.detach()) < 1e-12
    assert float(grad.norm()) < 1e-11
    assert float(nps(grey.detach(), Palette.of("rp2"), torch.ones(2, 2))) == pytest.approx(0.115, abs=0.001)
    white = nps(torch.ones_like(grey).detach(), Palette.of("rp2"), torch.ones(2, 2), "product")
    assert float(white) == pytest.approx(15.9, abs=0.1)


def test_snapped_colours_are_of_the_palette_and_let_the_gradient_through():
    rgb, palette = colours().float().requires_grad_(), Palette.of("ink")
    made = printed(rgb, WHOLE, "snap", palette)
    assert float(palette.distance(made.detach()).max()) == 0
    (grad,) = torch.autograd.grad(made.sum(), rgb)
    assert torch.equal(grad, torch.ones_like(grad))


def test_the_gamut_keeps_the_order_of_greys_between_ink_and_paper():
    ramp = torch.linspace(0, 1, 36, dtype=torch.float64).reshape(1, 1, 6, 6).expand(1, 3, 6, 6)
    made = printed(ramp, WHOLE, "gamut", Palette.of("ink"))[0, 0].flatten()
    assert bool((made.diff() > 0).all())
    assert (float(made[0]), float(made[-1])) == pytest.approx((0.06, 0.93))


def test_the_error_of_a_print_belongs_to_its_stream_and_is_of_the_stated_size():
    grey = torch.full((3, 3, 64, 64), 0.5)
    mask, palette = torch.ones(64, 64), Palette.of("ink")
    together = printed(grey, mask, "gamut", palette, streams(4, 5, 6))
    alone = printed(grey[:1], mask, "gamut", palette, streams(5))
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    error = together - printed(grey, mask, "gamut", palette)
    assert 0.02 < float(error.std()) < 0.04
    # smooth: neighbours differ far less than places far apart
    assert float(error.diff(dim=3).std()) < 0.4 * float(error.std())


def test_nothing_is_printed_beside_the_sticker():
    mask = torch.zeros(6, 6)
    mask[:3] = 1
    rgb = colours().float()
    for model in ("snap", "gamut"):
        made = printed(rgb, mask, model, Palette.of("tape"), streams(1, 2))  # type: ignore[arg-type]
        assert torch.equal(made[:, :, 3:], rgb[:, :, 3:])
        assert not torch.equal(made[:, :, :3], rgb[:, :, :3])
    assert torch.equal(printed(rgb, mask, "none", Palette.of("tape")), rgb)


def test_a_flat_colour_has_no_total_variation_and_stripes_have_their_contrast():
    flat = torch.full((1, 3, 4, 4), 0.3)
    stripes = torch.zeros(1, 3, 4, 4)
    stripes[..., ::2] = 1
    assert float(total_variation(flat, torch.ones(4, 4))) == 0
    assert float(total_variation(stripes, torch.ones(4, 4))) == pytest.approx(0.5)


def test_a_palette_is_read_from_a_file(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("# mine\n0.1,0.2,0.3\n\n1,1,1\n")
    assert torch.allclose(Palette.of(str(path)).colours, torch.tensor([[0.1, 0.2, 0.3], [1.0, 1.0, 1.0]]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.1,0.2,0.3\n0.1,0.2,0.3\n", "1 colour "),
        ("0.1,0.2,0.3\n255,0,0\n", "divide by 255"),
        ("0.1,0.2\n", "line 1"),
        ("red,green,blue\n", "line 1"),
        ("", "no colour"),
    ],
)
def test_a_palette_that_is_none_is_refused_in_one_sentence(tmp_path, text: str, words: str):
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        Palette.of(str(path))


def test_a_palette_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Palette.of(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="Did you mean 'tape'"):
        Palette.of("tap")
