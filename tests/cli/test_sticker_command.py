"""advkit sticker: what it prints and writes, and the one sentence for what cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from advkit.scene.printing import Palette, nps
from advkit.scene.sticker import Sticker

QUICK = ("--steps", "3", "--views", "2", "--test-views", "4", "--model", "lenet")


def test_a_sticker_is_designed_scored_and_written(run, tmp_path):
    answer = run(
        "sticker", "--class", "stop", "--target", "yield", *QUICK, "--out", tmp_path / "new", "--format", "json"
    )
    assert answer.code == 0, answer.err
    made = Sticker.load(tmp_path / "new")
    told = answer.json
    assert (told["class"], told["target"], told["steps_done"]) == ("stop", "yield", 3)
    assert made.facts == told
    assert told["success"][0]["title"] == "fresh views"
    for row in told["success"]:
        assert 0 <= row["printed"] <= row["right"] <= row["seen"]
        assert row["digital"] == row["printed"]  # of palette colours
    assert 0.15 < told["area"] < 0.3
    assert float(nps(made.rgba[None, :3], Palette.of("ink"), made.rgba[3])) == 0
    with Image.open(tmp_path / "new" / "sticker.png") as picture:
        assert picture.size == made.rgba.shape[1:]


@pytest.mark.parametrize("file", ["store.json", "evaluation.json", "certificates.json"])
def test_a_sticker_is_not_put_among_results_of_another_kind(run, tmp_path, file):
    (tmp_path / file).touch()
    answer = run("sticker", *QUICK, "--out", tmp_path)
    assert answer.code == 2
    assert "give another folder" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_the_table_has_printed_success_beside_digital_and_the_control(run):
    answer = run("sticker", *QUICK, "--colours", "free", "--print-model", "gamut", "--format", "csv", "--quiet")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == 'seen,clean right,digital,printed,"wrong, printed",grey control,most often read as'
    assert len(lines) == 3


@pytest.mark.parametrize("preset", ["rp2-paper", "rp2-code"])
def test_photos_are_fitted_and_held_out(run, tmp_path, preset):
    photos, mask = tmp_path / "photos", tmp_path / "mask.png"
    photos.mkdir()
    levels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    for number, picture in enumerate(levels):
        Image.fromarray(picture).save(photos / f"{number}.png")
    Image.fromarray(np.pad(np.full((8, 8), 255, np.uint8), 12)).save(mask)
    answer = run("sticker", *QUICK, "--photos", photos, "--mask", mask, "--class", "3", "--target", "5", "--held-out", "1",
                 "--preset", preset, "--format", "json")  # fmt: skip
    assert answer.code == 0, answer.err
    assert [(row["title"], row["seen"]) for row in answer.json["success"]] == [
        ("3 fitted photos", 3),
        ("fitted, 1 fresh views each", 3),
        ("1 held-out photos", 1),
        ("held-out, 4 fresh views each", 4),
    ]
    assert answer.json["area"] == pytest.approx(64 / 1024)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--target", "stop"], "is anyway"),
        (["--target", "yeild"], "Did you mean 'yield'"),
        (["--class", "nothing"], "is no class here"),
        (["--mask", "auto", "--area", "0"], "above 0"),
        (["--mask", "auto", "--area", "120%"], "up to 100%"),
        (["--mask", "auto", "--area", "much"], "0.05 or 5%"),
        (["--area", "5%"], "--mask auto"),
        (["--mask", "5,5;9,5"], "polygon"),
        (["--mask", "900,900;1000,900;1000,1000"], "leaves the sign's square"),
        (["--mask", "1,1;40,1;1,40"], "outside the sign"),
        (["--mask", "none.png"], "there is no mask"),
        (["--palette", "one.csv"], "cannot be read"),
        (["--colours", "blue"], "colours is 'blue'"),
        (["--print-model", "laser"], "print model"),
        (["--preset", "rp2"], "Known: rp2-code, rp2-paper"),
        (["--steps", "0"], "steps is 0"),
        (["--sign-mm", "0"], "--sign-mm"),
        (["--cell-mm", "900"], "cells of 900 mm"),
        (["--photos", "nowhere"], "no pictures"),
        (["--face", "halt"], "no sign is drawn"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(refused, given, words):
    assert words in refused("sticker", *QUICK, "--quiet", *given)


def test_an_empty_mask_and_a_palette_of_one_colour_are_refused(refused, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "mask.png")
    assert "is empty" in refused("sticker", *QUICK, "--quiet", "--mask", tmp_path / "mask.png")
    (tmp_path / "one.csv").write_text("0.1,0.2,0.3\n")
    assert "two different colours" in refused("sticker", *QUICK, "--quiet", "--palette", tmp_path / "one.csv")


def test_ctrl_c_keeps_what_was_found(run, tmp_path, monkeypatch):
    from advkit.engine.design.optimise import _Search

    whole = _Search.gradient

    def stop(self, theta, temperature, rng):
        if temperature < 1:
            raise KeyboardInterrupt
        return whole(self, theta, temperature, rng)

    monkeypatch.setattr(_Search, "gradient", stop)
    answer = run("sticker", *QUICK, "--out", tmp_path, "--format", "json")
    assert answer.code == 130
    assert "Interrupted after 1 steps" in answer.err
    assert json.loads(answer.out)["steps_done"] == 1
    assert Sticker.load(tmp_path).facts["steps_done"] == 1
    assert Sticker.load(tmp_path).facts["success"] == []  # who wants to leave does not wait for hundreds of views
    assert f"score it by: advkit drive {tmp_path}" in answer.err


def test_ctrl_c_while_the_mask_is_searched_ends_there(run, tmp_path, monkeypatch):
    from advkit.engine.design.optimise import _Search

    begun = []

    def stop(self, theta, temperature, rng):
        begun.append(self.recipe.mode)
        raise KeyboardInterrupt

    monkeypatch.setattr(_Search, "gradient", stop)
    answer = run("sticker", *QUICK, "--mask", "auto", "--out", tmp_path / "new")
    assert answer.code == 130
    assert begun == ["add"]  # the sparse change that shows where the mask is to be, and no sticker after it
    assert not (tmp_path / "new" / "sticker.json").exists()
