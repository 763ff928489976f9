"""What sticks on real signs, measured: every physical attack beside its two controls, on two networks.

    python benchmarks/physical.py [--data ../shared/data] [--networks runs/gtsrb] [--out runs/physical] [--only tape] [--page]

The networks are those of recipes/gtsrb-cnn-standard.toml and gtsrb-cnn-cutout.toml, trained on gtsrb_train.npz of --data, as
--networks/standard.safetensors and cutout.safetensors. The pictures are the first of gtsrb_test.npz that both get right. Each
row is kept in --out and not made again. ``--page`` writes docs/physical_measured.md from what is there.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from advkit import evaluate, load_data, load_model
from advkit.atomic import put_whole
from advkit.backbones import Classifier
from advkit.catalog import ATTACKS
from advkit.core.attack import Attack
from advkit.core.threat import BALLS
from advkit.data import Data
from advkit.data.base import Subset
from advkit.engine.evaluate import accuracy
from advkit.engine.examples import Finished
from advkit.engine.provenance import circumstances
from advkit.engine.stages import Observer
from advkit.results.statistics import share

PAGE = Path(__file__).parent.parent / "docs" / "physical_measured.md"
VICTIMS = {"standard": "standard training", "cutout": "trained on with a hole of 10 pixels"}
PICTURES = 300


@dataclass(frozen=True)
class Case:
    """A row: an attack of the registry, what the row calls it, and what an earlier trial of its kind found."""

    key: str
    title: str
    attack: str
    norm: str
    eps: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    trial: tuple[str, str] = ("-", "-")  # (standard, cutout): success %, at random %, queries

    def build(self, data: Path) -> Attack:
        """The attack."""
        settings = {key: str(value).replace("{data}", str(data)) for key, value in self.settings.items()}
        made = ATTACKS.create(self.attack, threat=BALLS[self.norm](self.eps), **settings)
        assert isinstance(made, Attack)
        return made


def _tape(pieces: int, pixels: int, trial: tuple[str, str]) -> Case:
    """Strips, four times as long as wide, that together have so many of the 1,024 pixels."""
    length = 2 * (pixels / pieces) ** 0.5
    title = f"tape, {pieces} strip{'s' * (pieces > 1)} of {length:g}x{length / 4:g}"
    return Case(f"tape-{pieces}-{pixels}", title, "tape", "area", _share(pixels), {"pieces": pieces}, trial)


def _share(pixels: int) -> str:
    return f"{(pixels + 0.1) / 1024:.5f}"


def cases() -> list[Case]:
    """The rows, in their order. Trials: LISA-CNN's layout on GTSRB, 287 to 300 pictures (100 for the shadow)."""
    train = {"fitted_on": "{data}/gtsrb_train.npz"}
    return [
        _tape(1, 9, ("91.3 / 16.7 / 43", "86.5 / 13.5 / 63")),
        _tape(2, 18, ("98.6 / 32.8 / 17", "92.5 / 23.1 / 38")),
        _tape(1, 25, ("99.3 / 34.5 / 10", "94.7 / 27.4 / 26")),
        _tape(2, 50, ("100 / 56.4 / 3", "-")),
        _tape(3, 75, ("100 / 65.5 / 2", "-")),
        _tape(4, 100, ("100 / 75.3 / 2", "-")),
        Case("dots-25", "dots, 3 white discs", "dots", "area", _share(25)),
        Case("dots-50", "dots, 3 white discs", "dots", "area", _share(50)),
        Case("roa-3", "roa, 3x3", "roa", "area", _share(9), trial=("89.2 / - / -", "-")),
        Case("roa-5", "roa, 5x5", "roa", "area", _share(25)),
        Case(
            "roa-all-5",
            "roa, 5x5, every second place tried",
            "roa",
            "area",
            _share(25),
            {"search": "exhaustive", "stride": 2, "steps": 255},
            ("97.3 / - / -", "96.0 / - / -"),
        ),
        Case("roa-7", "roa, 7x7", "roa", "area", _share(49), trial=("100 / - / -", "-")),
        Case("sticker-25", "sticker, 2 pieces", "sticker", "area", _share(25)),
        Case("sticker-50", "sticker, 2 pieces", "sticker", "area", _share(50)),
        Case("sticker-ink", "sticker, 2 pieces, inks", "sticker", "area", _share(50), {"colours": "palette"}),
        Case("patch-5", "patch, one for all", "patch", "area", "0.05", train),
        Case("patch-10", "patch, one for all", "patch", "area", "0.1", train),
        Case(
            "shadow",
            "shadow, k = 0.43",
            "shadow",
            "shade",
            "0.57",
            {"mask": "disc"},
            ("94.0 / - / 103", "94.0 / - / 149"),
        ),
    ]


def right(net: Classifier, data: Data) -> Data:
    """The first pictures that the network gets right."""
    kept: list[int] = []
    for part in torch.split(torch.arange(len(data)), 100):
        with torch.no_grad():
            kept += part[net(data.pictures(part.tolist())).argmax(1) == data.labels[part]].tolist()
        if len(kept) >= PICTURES:
            break
    return Subset(data, kept[:PICTURES])


def measure(attack: Attack, net: Classifier, pictures: Data) -> dict[str, Any]:
    """How often an attack succeeds, with what area and how many questions, and its controls; as JSON holds them."""
    covered = torch.zeros(len(pictures))

    def look(name: str, finished: Finished) -> None:
        clean = pictures.pictures(finished.example.tolist())
        covered[finished.example] = (finished.x_adv.cpu() != clean).any(1).float().mean((1, 2))

    (outcome,) = evaluate(net, pictures, {"it": attack}, observer=Observer(finished=look)).outcomes
    hit = outcome.success
    return {
        "attack": outcome.attack,
        "n": len(pictures),
        "successes": int(hit.sum()),
        "area": float(covered.mean()),
        "forwards": float(outcome.forwards.double().mean()),
        "forwards_of_successes": float(outcome.forwards[hit].double().mean()) if bool(hit.any()) else None,
        "backwards": float(outcome.backwards.double().mean()),
        "seconds": outcome.seconds,
        "controls": {
            control.name: {"n": len(pictures), "successes": int(control.success.sum())} for control in outcome.controls
        },
    }


def run(asked: argparse.Namespace) -> None:
    """Make the rows that are asked for and not there."""
    test = load_data(asked.data / "gtsrb_test.npz")
    for name in VICTIMS:
        file = asked.networks / f"{name}.safetensors"
        if not file.is_file():
            print(f"{file} is not there: left out", flush=True)
            continue
        net = load_model(str(file), data=test)
        out = asked.out / name
        out.mkdir(parents=True, exist_ok=True)
        pictures = right(net, test)
        if not (out / "network.json").is_file():
            _keep(out / "network.json", {"accuracy": accuracy(net, test).percent, "n": len(test)})
        for case in cases():
            wanted = not asked.only or any(case.key.startswith(start) for start in asked.only)
            if not wanted or (out / f"{case.key}.json").is_file():
                continue
            row = measure(case.build(asked.data), net, pictures)
            _keep(out / f"{case.key}.json", row)
            print(f"{name} {case.key} {row['successes']} of {row['n']}, {row['seconds']:.0f} s", flush=True)


def _keep(path: Path, facts: Mapping[str, Any]) -> None:
    put_whole(path, (json.dumps(facts, indent=1) + "\n").encode())


def text(out: Path) -> str:
    """The page."""
    parts = [
        "# Physical attacks, measured",
        "",
        f"Made by `python benchmarks/physical.py`, then `--page`; do not edit. torch {torch.__version__}, "
        f"one thread of {circumstances()['processor']}.",
        "",
        f"Real GTSRB pictures of 32x32, the first {PICTURES} of the test set that the network gets right; untargeted.",
        "*Area*: the share of the picture's pixels that changed, mean of all pictures. *Success*: with 95 % Wilson interval.",
        "*Random*: the same thing once, at a random place, with random colours. *Grey*: a grey square of that area at a random",
        "place (of a shadow: the whole picture darkened as much). *Queries*: forward passes per picture, mean over all; in",
        "brackets over successes. *Trial*: what an earlier trial with the layout of LISA-CNN, 94 % accurate, found: success /",
        "random / queries. *s*: of a machine that others used too, so no measure of the attacks' cost. The recipes were chosen",
        "among two and three by their accuracy on these test pictures, which flatters it a little.",
    ]
    for name, title in VICTIMS.items():
        if not (out / name / "network.json").is_file():
            continue
        network = json.loads((out / name / "network.json").read_text())
        parts += [
            "",
            f"## `recipes/gtsrb-cnn-{name}.toml`: {title}",
            "",
            f"Accuracy without attack {network['accuracy']} % on all {network['n']:,} test pictures.",
            "",
            "| attack | area % | success % | random % | grey % | queries | trial | s |",
            "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
        ]
        for case in cases():
            path = out / name / f"{case.key}.json"
            if path.is_file():
                parts.append(_line(case, json.loads(path.read_text()), case.trial[list(VICTIMS).index(name)]))
    parts += ["", *READING]
    return "\n".join(parts) + "\n"


def _line(case: Case, row: Mapping[str, Any], trial: str) -> str:
    controls = list(row["controls"].values())
    found = row["forwards_of_successes"]
    asked = f"{row['forwards']:.0f}" + ("" if found is None else f" ({found:.0f})")
    cells = [
        case.title,
        f"{100 * row['area']:.1f}",
        share(row["successes"], row["n"]).percent,
        *(share(one["successes"], one["n"]).percent for one in controls),
        asked,
        trial,
        f"{row['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


READING = (
    "## Beside what others found",
    "",
    "- *Tape.* The trial's finding holds on a network that is not weak: one strip of 1 % of the pixels, placed with fewer",
    "  than a hundred questions, turns four pictures of five, and two strips of 5 % turn nearly all. What differs is",
    "  chance: a strip at a random place turns a third to two thirds as many pictures as in the trial, and the search asks",
    "  up to four times as often. Our networks are 98.0 and 97.3 % accurate, the trial's 94.1 and 92.7 %: what is read with",
    "  a small margin falls to any blot, which is why the controls stand beside the row.",
    "- *ROA.* 68, 89 and 94 % where the trial had 89, 97 and 100 %. The trial tried every second place; the default here",
    "  tries the ten that the gradient names, and fills the rectangle in the rest of 50 steps. With every second place",
    "  tried, 5x5 turns 95 % (trial 97) and, after training with holes, 91 % (trial 96): of the former most of the",
    "  difference is the search, which takes ten times the passes, of the latter half.",
    "- *Shadow.* 80 % where the trial had 94 %, and Zhong et al. 2022, with five tries, 90 % on GTSRB and 98 % on LISA. One",
    "  try here, as in the trial. Both recipes vary brightness, contrast and saturation by up to 40 %, which is what a",
    "  shadow does; how much of the difference that makes was not measured apart.",
    "- *Sticker.* Colours optimised on 2.4 % of the pixels do what one strip of tape in the best place does, at three to",
    "  four times the forward passes and with gradients. Colours held to printable inks cost 2 and 6 points at 5 %.",
    "- *Patch.* One for all pictures, at any place and angle, is much the weakest: 43 % at 5 %, where grey at a random",
    "  place has 16 %. Published figures above 90 % (Brown et al. 2017 and after) are for other data and a target, and do",
    "  not compare.",
    "- *Holes in training* do what is said of them and no more: a grey square of 9.8 % that turned 29 % of the pictures",
    "  turns 11 %, while tape, dots, roa and shadow, which are searched for, lose 0 to 6 points. In the trial they lost as",
    "  much.",
)


def main() -> None:
    """Measure what is asked for, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ADVKIT_DATA", "../shared/data")))
    parser.add_argument("--networks", type=Path, default=Path("runs/gtsrb"))
    parser.add_argument("--out", type=Path, default=Path("runs/physical"))
    parser.add_argument("--only", action="append", help="the beginning of a row's name, such as tape; repeatable")
    parser.add_argument("--page", action="store_true", help="write docs/physical_measured.md and do nothing else")
    asked = parser.parse_args()
    if asked.page:
        PAGE.write_text(text(asked.out), encoding="utf-8")
        return
    run(asked)
    print(text(asked.out))


if __name__ == "__main__":
    main()
