"""The photos of stop signs: found by a setting or by ADVKIT_DATA, with masks and perturbations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from advkit.backbones import load_model
from advkit.data import load_data
from advkit.data.stop_signs import StopSigns
from advkit.errors import DataError

Save = Callable[..., Path]

STRIP = np.zeros((32, 32, 3), np.uint8)
STRIP[4:8] = 255


@pytest.fixture
def folder(save: Save, tmp_path: Path) -> Path:
    """Three small photos and two large ones, one mask, and a poster that brightens the red."""
    for name, red in (("10", 90), ("2", 60), ("1", 30)):
        save(f"stop_signs/32/{name}.png", (red, 0, 0), (32, 32))
    for name in ("1", "2"):
        save(f"stop_signs/256/{name}.png", (0, 0, 250), (256, 256))
    save("stop_signs/mask_rectangles_32.png", STRIP)
    save("stop_signs/mask_rectangles_256.png", STRIP.repeat(8, 0).repeat(8, 1))
    noise = np.zeros((32, 32, 3), np.float32)
    noise[1, 2, 0] = 0.5
    np.savez(tmp_path / "stop_signs" / "eykholt_noise.npz", poster=noise, sticker=20 * noise)
    return tmp_path / "stop_signs"


def test_all_photos_are_of_class_14_and_in_the_order_of_their_numbers(folder: Path) -> None:
    data = load_data("stop-signs", path=folder)
    assert data.labels.tolist() == [14, 14, 14]
    assert data.classes[14] == "stop"
    assert len(data.classes) == 18
    assert (data.tensors()[0][:, 0, 0, 0] * 255).round().tolist() == [30, 60, 90]


def test_the_environment_names_the_folder_around_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVKIT_DATA", str(folder.parent))
    assert len(load_data("stop-signs")) == 3


@pytest.mark.parametrize(("size", "count", "blue"), [(32, 3, 0), (256, 2, 250), (64, 2, 250)])
def test_every_size_but_32_is_of_the_large_photos(folder: Path, size: int, count: int, blue: int) -> None:
    data = load_data("stop-signs", path=str(folder), size=str(size))
    assert data.shape == (3, size, size)
    assert len(data) == count
    assert (data.tensors()[0][:, 2] * 255).round().unique().tolist() == [blue]


@pytest.mark.parametrize("size", [32, 64, 256])
def test_a_mask_covers_the_same_part_of_the_sign_at_every_size(folder: Path, size: int) -> None:
    mask = StopSigns(folder, size).mask("rectangles")
    assert mask.shape == (size, size)
    assert mask.dtype == torch.bool
    rows = mask.all(1).nonzero().flatten().tolist()
    assert (rows[0], rows[-1], len(rows)) == (size // 8, size // 4 - 1, size // 8)
    assert float(mask.float().mean()) == 1 / 8


def test_a_perturbation_keeps_its_place_and_its_size(folder: Path) -> None:
    poster = StopSigns(folder).perturbation("poster")
    assert poster.shape == (3, 32, 32)
    assert poster.nonzero().tolist() == [[0, 1, 2]]
    assert float(StopSigns(folder).perturbation("sticker")[0, 1, 2]) == 10


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADVKIT_DATA", raising=False)
    with pytest.raises(DataError, match=r"does not ship these photos; .* ADVKIT_DATA"):
        load_data("stop-signs")
    monkeypatch.setenv("ADVKIT_DATA", str(folder))
    with pytest.raises(DataError, match=r"there is no folder .*stop_signs; ADVKIT_DATA is to name"):
        load_data("stop-signs")
    with pytest.raises(DataError, match=r"the folder .*nowhere does not exist; give the one that holds 32/ and 256/"):
        load_data("stop-signs", path=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"there are no photos in .*32; put"):
        load_data("stop-signs", path=tmp_path)
    signs = StopSigns(folder)
    with pytest.raises(DataError, match=r"the mask .*mask_octagon_32\.png cannot be read"):
        signs.mask("octagon")
    with pytest.raises(DataError, match="no mask 'circle'; there are octagon and rectangles"):
        signs.mask("circle")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no perturbation 'tape'; there are poster and sticker"):
        signs.perturbation("tape")  # type: ignore[arg-type]
    (folder / "eykholt_noise.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"the perturbations in .*eykholt_noise\.npz cannot be read"):
        signs.perturbation("poster")


@pytest.mark.real
def test_the_published_perturbations_fool_the_published_network_as_often_as_published(real: Path) -> None:
    """36 of 40 signs fell to the stickers and 40 of 40 to the poster, all read as speed limit 45; 30 photos are left."""
    data = StopSigns(real / "stop_signs")
    model = load_model("lisa-cnn", weights=real / "weights" / "lisa_cnn.safetensors", data=data)
    x, y = data.tensors()
    with torch.no_grad():
        assert len(x) == 30
        assert torch.equal(model(x).argmax(1), y)
        for name, mask, fooled in (("sticker", "rectangles", 27), ("poster", "octagon", 30)):
            shown = torch.where(data.mask(mask), (x + data.perturbation(name)).clamp(0, 1), x)  # type: ignore[arg-type]
            assert int((model(shown).argmax(1) == data.classes.index("speed limit 45")).sum()) == fooled
