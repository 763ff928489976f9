"""RP2's published perturbations on the authors' stop-sign photos, and our stickers on the same photos and mask.

    ADVKIT_DATA=../shared/data python benchmarks/rp2_photos.py [--out FILE]

The victim is their LISA-CNN; stop (14) is to be read as speed limit 45 (12). Prints one table in markdown. Held-out photos:
each third of the photos is held out once, and the three stickers' counts are added.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from advkit.backbones import load_model
from advkit.core.rng import Rng
from advkit.data.stop_signs import StopSigns
from advkit.engine.design import PRESETS, OnPhotos, Recipe, Score, optimise, score
from advkit.scene import PICTURE_VIEWS
from advkit.scene.printing import Palette
from advkit.scene.sticker import Sticker

STOP, SPEED_LIMIT_45 = 14, 12
FREE = replace(PRESETS["rp2-paper"], lam=0.0, nps_weight=0.0)
WAYS: dict[str, tuple[Recipe, bool]] = {  # and whether the photos are disturbed in the search
    "rp2-code: added, no views": (PRESETS["rp2-code"], False),
    "free colours, no views": (FREE, False),
    "free colours, views": (replace(FREE, steps=400), True),
    "rp2-paper (NPS 5), views": (PRESETS["rp2-paper"], True),
    "palette ink, no views": (Recipe(cell_mm=0.0, lam=0.0), False),
    "palette ink, views": (Recipe(cell_mm=0.0, lam=0.0), True),
}
INK = Palette.of("ink")


def main() -> None:
    """Replay, search, score, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--folds", type=int, default=3)
    options.add_argument("--views", type=int, default=10, help="fresh views of each photo")
    options.add_argument("--out", type=Path)
    given = options.parse_args()

    home = Path(os.environ.get("ADVKIT_DATA", "../shared/data"))
    signs = StopSigns(home / "stop_signs")
    photos = signs.pictures(range(len(signs)))
    net = load_model("lisa-cnn", weights=home / "weights" / "lisa_cnn.safetensors", data=signs)
    bars = signs.mask("rectangles").float()
    report = Report(net, given.views)
    for name, shape in (("sticker", "rectangles"), ("poster", "octagon")):
        mask = signs.mask(shape).float()  # type: ignore[arg-type]
        noise = signs.perturbation(name)  # type: ignore[arg-type]
        sticker = Sticker(torch.cat([noise * mask, mask[None]]), mode="add")
        whole = report.scores(photos, sticker, 0)
        report.add(f"published {name}", f"{int(mask.sum())} px", whole, None)
    order = Rng.of(0, torch.arange(len(photos))).fold("held out").uniform().argsort()
    for name, (recipe, views) in WAYS.items():
        found = searched(net, photos, bars, recipe, views)
        folds = []
        for number, held in enumerate(order.chunk(given.folds)):
            fit = torch.tensor([k for k in range(len(photos)) if k not in held.tolist()])
            part = searched(net, photos[fit], bars, replace(recipe, seed=number), views)
            folds.append(report.scores(photos[held], part, number))
        held_out = (total([a for a, _ in folds]), total([b for _, b in folds]))
        report.add(f"ours, {name}", f"{int(bars.sum())} px", report.scores(photos, found, 0), held_out)
    if given.out:
        given.out.write_text("\n".join(report.lines) + "\n", encoding="utf-8")


def searched(net: torch.nn.Module, photos: Tensor, mask: Tensor, recipe: Recipe, views: bool) -> Sticker:
    """One sticker for some photos."""
    stage = OnPhotos(photos, PICTURE_VIEWS if views else None)
    colours = optimise(net, stage, mask, STOP, SPEED_LIMIT_45, recipe).colours
    return Sticker(torch.cat([colours * mask, mask[None]]), mode=recipe.mode)


def total(scores: list[Score]) -> Score:
    """The counts of several."""
    summed = {
        key: sum(getattr(each, key) for each in scores) for key in ("seen", "right", "digital", "printed", "wrong")
    }
    return replace(scores[0], **summed)


class Report:
    """The table, printed as it grows."""

    def __init__(self, net: torch.nn.Module, views: int) -> None:
        self.net, self.views = net, views
        self.lines = [
            "# Stickers on the photographs of RP2, measured",
            "",
            "Made by `python benchmarks/rp2_photos.py --out FILE`; do not edit. 30 photographs of stop signs of the 40",
            "that were published (Eykholt et al. 2018), all read right by their LISA-CNN. Success: read as speed limit",
            "45, of those that are right without the sticker, with its 95 % Wilson interval. Published: 36 of 40 by the",
            "sticker, 40 of 40 by the poster.",
            "",
            "| sticker | mask | fitted photos | printed (snap to ink) | held-out photos | held-out, printed | "
            f"fitted, {views} fresh views each | printed | held-out, {views} fresh views each | printed |",
            "| --- | ---: | " + " | ".join(["---:"] * 8) + " |",
        ]
        sys.stdout.write("\n".join(self.lines) + "\n")

    def scores(self, photos: Tensor, sticker: Sticker, seed: int) -> tuple[Score, Score]:
        """On the photos as they are, and under fresh views."""
        stage = OnPhotos(photos, PICTURE_VIEWS)
        streams = Rng.of(seed, torch.ones(1, dtype=torch.long)).fold("test")
        ways = (stage.whole(), stage.each(streams, self.views))
        first, second = (
            score(self.net, stage, sticker, seen, STOP, SPEED_LIMIT_45, title="", print_model="snap", palette=INK)
            for seen in ways
        )
        return first, second

    def add(self, name: str, mask: str, fitted: tuple[Score, Score], held: tuple[Score, Score] | None) -> None:
        """One row."""
        cells = [
            cell for k in (0, 1) for scores in (fitted, held) for cell in _cells(None if scores is None else scores[k])
        ]
        self.lines.append(f"| {name} | {mask} | {' | '.join(cells)} |")
        sys.stdout.write(self.lines[-1] + "\n")
        sys.stdout.flush()


def _cells(score: Score | None) -> list[str]:
    if score is None:
        return ["-", "-"]
    return [
        f"{count} of {score.right}, {rate.percent}" if (rate := score.rate(count)) else "-"
        for count in (score.digital, score.printed)
    ]


if __name__ == "__main__":
    main()
