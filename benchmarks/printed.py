"""Printed success of stickers: with palette or print model in the loop, and without, at the 15 lab poses of RP2.

    python benchmarks/printed.py [--model cnn --weights FILE --data gtsrb_test.npz] [--class 14 --target 5] [--out FILE]

Prints one table in markdown: each way to search a sticker for the drawn stop sign, each seed, and all seeds together. The
defaults are the embedded model of advkit and its own signs, stop to be read as yield.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from advkit.backbones import load_model
from advkit.core.rng import Rng
from advkit.data import load_data
from advkit.engine.design import Recipe, Score, mask_of, optimise, rendered, score
from advkit.engine.targets import class_number
from advkit.scene import RP2_POSES, View, Views
from advkit.scene.sticker import Sticker

FREE = Recipe("free", print_model="none", nps_weight=0.0, tv_weight=0.0)
WAYS: dict[str, Recipe] = {
    "free colours, nothing of print": FREE,
    "free colours, NPS 5 and TV 0.1": replace(FREE, nps_weight=5.0, tv_weight=0.1),
    "free colours, snap in the loop": replace(FREE, print_model="snap"),
    "free colours, gamut in the loop": replace(FREE, print_model="gamut"),
    "palette per cell": Recipe(),
    "black and white cells": Recipe("black-white"),
}


def main() -> None:
    """Search, score, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="resnet")
    options.add_argument("--weights", default="auto")
    options.add_argument("--data", default="signs")
    options.add_argument("--class", dest="label", default="stop")
    options.add_argument("--target", default="yield")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--steps", type=int, default=400)
    options.add_argument("--lights", type=int, default=20)
    options.add_argument("--lab", action="store_true", help="search in the range of the poses: 1.5 to 12.2 m")
    options.add_argument("--mask", default="bars")
    options.add_argument("--only", action="append", help="a part of the name of a way; repeatable")
    options.add_argument("--out", type=Path)
    given = options.parse_args()

    data = load_data(given.data)
    net = load_model(given.model, weights=given.weights, data=data)
    label, target = (class_number(text, data.classes, len(data.classes)) for text in (given.label, given.target))
    views = Views(distance=(1.5, 12.2)) if given.lab else Views()
    lines = [
        f"# Printed stickers: {given.model}, mask {given.mask}",
        "",
        f"Made by `python benchmarks/printed.py {shlex.join(sys.argv[1:])}`; do not edit.",
        "",
        "*Printed: snap* is the worst printer: every colour becomes the nearest of the palette `ink`; *gamut* is a mild one.",
        "*Grey*: the same shape in grey, read as the target.",
        "",
        f"Weights {Path(net.weights.removeprefix('file ')).name}: {given.label} -> {given.target}; "
        f"{given.lights} lights at each of RP2's 15 poses; "
        f"mask {given.mask}; {given.steps} steps of {Recipe().views} views; cells of {Recipe().cell_mm:g} mm; "
        "percent of the views that are right "
        "without the sticker",
        "",
        "| search | seed | clean right | digital | printed: snap to ink | printed: gamut | grey |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    for name, recipe in WAYS.items():
        if given.only and not any(part in name for part in given.only):
            continue
        found: list[tuple[Score, Score]] = []
        for seed in range(given.seeds):
            began = time.perf_counter()
            fit = rendered("stop", 32, 750.0, views=views, seed=seed)
            mask = mask_of(given.mask, fit.cover, 750.0, fit.filled)
            own = replace(recipe, seed=seed, steps=given.steps)
            colours = optimise(net, fit, mask, label, target, own).colours
            sticker = Sticker(torch.cat([colours * mask, mask[None]]), filled=fit.filled)
            test = rendered("stop", 32, 750.0, split="test", seed=seed)
            streams = Rng.of(seed, torch.ones(1, dtype=torch.long)).fold("test")
            lab = View.cat(
                [test.views.at(*pose).draw(streams.fold(k), given.lights) for k, pose in enumerate(RP2_POSES)]
            )
            snap, gamut = (
                score(
                    net,
                    test,
                    sticker,
                    test.looking(lab),
                    label,
                    target,
                    title=name,
                    print_model=model,
                    palette=own.palette,
                )
                for model in ("snap", "gamut")
            )
            found.append((snap, gamut))
            row = line(name, str(seed), [snap], [gamut])
            lines.append(row)
            sys.stdout.write(f"{row}  <!-- {time.perf_counter() - began:.0f} s -->\n")
            sys.stdout.flush()
        row = line(f"**{name}**", "all", [snap for snap, _ in found], [gamut for _, gamut in found])
        lines.append(row)
        sys.stdout.write(row + "\n")
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def line(name: str, seed: str, snap: list[Score], gamut: list[Score]) -> str:
    """One row: the counts of several seeds together."""
    right, seen = (sum(getattr(each, key) for each in snap) for key in ("right", "seen"))
    whole = replace(snap[0], right=right, seen=seen)
    cells = [
        f"{right} of {seen}",
        *(
            rate.percent if (rate := whole.rate(sum(getattr(each, key) for each in rows))) else "-"
            for rows, key in ((snap, "digital"), (snap, "printed"), (gamut, "printed"), (snap, "grey"))
        ),
    ]
    return f"| {name} | {seed} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
