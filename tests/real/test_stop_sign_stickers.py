"""RP2's published perturbations on the authors' photos, and a sticker of ours in the same mask (Eykholt et al. 2018)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from advkit.backbones import load_model
from advkit.data.stop_signs import StopSigns
from advkit.engine.design import PRESETS, OnPhotos, optimise, score
from advkit.scene.printing import Palette
from advkit.scene.sticker import Sticker

DATA = Path(os.environ.get("ADVKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))
STOP, SPEED_LIMIT_45 = 14, 12

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DATA / "stop_signs").is_dir(), reason="needs the stop-sign photos named by ADVKIT_DATA"),
]


def success(net, stage: OnPhotos, sticker: Sticker) -> tuple[int, int]:
    found = score(
        net,
        stage,
        sticker,
        stage.whole(),
        STOP,
        SPEED_LIMIT_45,
        title="",
        print_model="snap",
        palette=Palette.of("ink"),
    )
    return found.digital, found.right


def test_the_published_stickers_fool_nine_of_ten_photos_and_ours_no_fewer():
    signs = StopSigns(DATA / "stop_signs")
    net = load_model("lisa-cnn", weights=DATA / "weights" / "lisa_cnn.safetensors", data=signs)
    stage = OnPhotos(signs.pictures(range(len(signs))))
    bars, whole = signs.mask("rectangles").float(), signs.mask("octagon").float()
    published = [
        Sticker(torch.cat([signs.perturbation(name) * mask, mask[None]]), mode="add")  # type: ignore[arg-type]
        for name, mask in (("sticker", bars), ("poster", whole))
    ]
    assert success(net, stage, published[0]) == (27, 30)  # as 36 of the authors' 40
    assert success(net, stage, published[1]) == (30, 30)  # as 40 of 40
    free = replace(PRESETS["rp2-paper"], lam=0.0, nps_weight=0.0, steps=150)
    colours = optimise(net, stage, bars, STOP, SPEED_LIMIT_45, free).colours
    assert success(net, stage, Sticker(torch.cat([colours * bars, bars[None]])))[0] >= 27
