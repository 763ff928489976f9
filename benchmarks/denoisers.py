"""Input denoisers measured honestly: clean cost, oblivious and adaptive accuracy, milliseconds, on four data sets.

    python benchmarks/denoisers.py [--data ../shared/data] [--out runs/denoisers] [--only gtsrb] [--page]

Each case is a sweep of advkit (`sweep` of the library, as ``advkit sweep`` runs it) over every wrapper of the registry, kept
in --out and resumed from there. The GTSRB network is the one that ``python benchmarks/training.py --only gtsrb:standard``
leaves in --networks. ``--page`` writes docs/denoisers.md from what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from advkit.catalog import DEFENSES
from advkit.core.defense import RandomWrapper, Wrapper
from advkit.engine.defend import build_defense
from advkit.engine.provenance import circumstances
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.results.grid import Line, load_grid

PAGE = Path(__file__).parent.parent / "docs" / "denoisers.md"
LEARNED = ("dae", "diffusion", "dncnn", "hgd")  # made for signs
VARIANTS = ("bits:3", "jpeg:50", "jpeg:25")


@dataclass(frozen=True)
class Case:
    """A network, its pictures, and the attack that it meets."""

    name: str
    title: str
    model: ModelSpec
    data: DataSpec
    radii: tuple[str, ...]
    samples: int
    steps: int
    skip: tuple[str, ...] = ()


def cases(data: Path, networks: Path) -> list[Case]:
    """The four of them."""
    photos = ModelSpec("torchvision:mobilenet_v2", f"{data}/weights/imagenet_mobilenet_v2.safetensors")
    return [
        Case(
            "cifar10",
            "CIFAR-10, ResNet-20 (standard training)",
            ModelSpec("resnet20", f"{data}/weights/cifar10_resnet20.safetensors", normalize="imagenet"),
            DataSpec(f"{data}/cifar10_test_1000.npz"),
            ("1/255", "4/255"),
            100,
            20,
            LEARNED,
        ),
        Case(
            "gtsrb",
            "GTSRB, `cnn` (standard training)",
            ModelSpec("cnn", f"{networks}/gtsrb/standard/weights.safetensors"),
            DataSpec(f"{data}/gtsrb_test.npz"),
            ("2/255", "4/255", "8/255"),
            200,
            20,
            LEARNED,
        ),
        Case(
            "imagenet",
            "ImageNet photos, MobileNetV2 (standard training)",
            photos,
            DataSpec(f"{data}/imagenet_sample", (("size", 224),)),
            ("1/255",),
            25,
            10,
            (*LEARNED, "nlm"),
        ),
        Case(
            "signs",
            "signs, the embedded ResNet-20 (standard training)",
            ModelSpec("resnet20"),
            DataSpec("signs"),
            ("2/255", "8/255"),
            100,
            20,
        ),
    ]


def defenses(case: Case) -> list[str]:
    """Every wrapper of the registry, some with other settings, and those that draw also against a single draw."""
    names = [e.name for e in DEFENSES.entries() if isinstance(e.factory, type) and issubclass(e.factory, Wrapper)]
    if case.name == "signs":
        return [name for name in names if name in (*LEARNED, "median", "jpeg")]
    found = [*(name for name in names if name not in (*case.skip, "quilting")), *VARIANTS]
    if case.name == "imagenet":
        return sorted(found)
    found += [f"{name}:eot=1" for name in found if isinstance(build_defense(name)[0], RandomWrapper)]
    return sorted([*found, "quilting:draws=2"])  # its search takes 10 ms for each draw


def measure(case: Case, out: Path) -> None:
    """Run the sweep, and time each wrapper."""
    store = out / case.name
    for defense in ["none", *defenses(case)]:  # one by one: what is finished can be looked at
        wanted = Sweep(
            models=(replace(case.model, name=case.name),),
            attacks=(AttackSpec("pgd", (("steps", case.steps),)),),
            radii=case.radii,
            data=case.data,
            defenses=(defense,),
            samples=case.samples,
            keep_pictures=0,
        )
        began = time.perf_counter()
        run_plan(make_plan(wanted), store)
        print(f"{case.name} {defense} {time.perf_counter() - began:.0f} s", flush=True)
    times = {}
    x = case.data.build().pictures(range(32))
    for defense in defenses(case):
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            with torch.no_grad():
                build_defense(defense)[0](x)
            taken.append((time.perf_counter() - began) / len(x) * 1000)
        times[defense] = statistics.median(taken)
    (out / f"{case.name}.json").write_text(json.dumps(times))


def text(found: Sequence[tuple[Case, Path]]) -> str:
    """The page."""
    parts = [
        "# Input denoisers, measured",
        "",
        f"Made by `python benchmarks/denoisers.py`, then `--page`; do not edit. torch {torch.__version__}, "
        f"one thread of {circumstances()['processor']}.",
        "",
        "Accuracy % with its 95 % Wilson interval. *Oblivious*: PGD made on the network without the denoiser, replayed on",
        "the network with it. *Adaptive*: PGD on the denoised network, by the gradient that the denoiser declares: its own",
        "(exact), none of its own (straight-through, BPDA) or a smooth stand-in (surrogate); one that draws is attacked by",
        "the mean over as many draws as the second column says. *ms*: per picture, one draw. (!) marks an adaptive accuracy",
        "above the oblivious one by more than 3 points: an attack that is broken.",
        "",
        "An earlier trial of such denoisers on GTSRB (LISA-CNN layout, 500 pictures, steps of eps / 4) had 17.8 % standing at",
        "8/255 without a denoiser, 17 to 20 % behind one. Network and attack differ here, and fewer stand. Alike is the",
        "finding: to an attack that knows of it no smoothing is worth more than a few points, and total variation costs twenty",
        "clean ones. Unlike there, examples made without the denoiser lose much of their force behind it (mean: 30 % stand),",
        "which is what makes the oblivious number a trap.",
        "",
        "WebP, quilting and TV with dropout still stand high on some networks under attack. That is the attack's weakness and",
        "not their strength: none has a gradient that is worth much. Ask `advkit check`, which also attacks by scores.",
    ]
    for case, out in found:
        grid = load_grid(out / case.name)
        times = json.loads((out / f"{case.name}.json").read_text())
        lines = {(line.defense, line.attack, line.eps): line for line in grid.lines}
        clean = {line.defense: line for line in grid.clean}
        heads = [f"{kind} {eps}" for eps in case.radii for kind in ("oblivious", "adaptive")]
        first = clean["none"]
        parts += [
            "",
            f"## {case.title}: PGD-{case.steps}, n = {first.n}",
            "",
            f"| defense | backward | clean | {' | '.join(heads)} | ms |",
            f"| --- | --- | {'---: | ' * (len(heads) + 2)}".rstrip(),
        ]
        for defense in ["none", *defenses(case)]:
            if defense not in clean:
                continue
            row = [defense, backward(defense), clean[defense].accuracy.percent]
            for eps in case.radii:
                adaptive, oblivious = lines[defense, "pgd", eps], lines.get((defense, "pgd (oblivious)", eps))
                row.append("-" if oblivious is None else oblivious.accuracy.percent)
                row.append(adaptive.accuracy.percent + (" (!)" if oblivious and _broken(adaptive, oblivious) else ""))
            parts.append(f"| {' | '.join(row)} | {f'{times[defense]:.2f}' if defense in times else '-'} |")
    return "\n".join(parts) + "\n"


def backward(defense: str) -> str:
    """How the gradient passes."""
    if defense == "none":
        return "-"
    (wrapper,) = build_defense(defense)
    if isinstance(wrapper, RandomWrapper):
        return f"{wrapper.backward}, {wrapper.eot or wrapper.draws} draws"
    return wrapper.backward


def _broken(adaptive: Line, oblivious: Line) -> bool:
    return adaptive.accuracy.value > oblivious.accuracy.value + 0.03


def main() -> None:
    """Measure what is asked for, then print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ADVKIT_DATA", "../shared/data")))
    parser.add_argument("--networks", type=Path, default=Path("runs/training"))
    parser.add_argument("--out", type=Path, default=Path("runs/denoisers"))
    parser.add_argument("--only", action="append", help="cifar10, gtsrb, imagenet or signs; repeatable")
    parser.add_argument("--page", action="store_true", help="write docs/denoisers.md and do nothing else")
    asked = parser.parse_args()
    known = cases(asked.data, asked.networks)
    for case in known:
        if not asked.page and (not asked.only or case.name in asked.only):
            measure(case, asked.out)
    page = text([(case, asked.out) for case in known if (asked.out / f"{case.name}.json").exists()])
    if asked.page:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page)


if __name__ == "__main__":
    main()
