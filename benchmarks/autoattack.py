"""`autoattack` and `standard` beside an independent AutoAttack on real weights, and without each of its members.

    python benchmarks/autoattack.py --work DIR [--data ../shared/data] [--only TEXT] [--part NAME] [--samples 200]

Writes docs/autoattack.md. Parts: reference, autoattack, standard; ablation on the networks where it tells something, on their
first 200 pictures; certified on those that CROWN can say something of.

Every part of every network is kept in DIR and not run again; without --only and --part the page is written from all. The
reference is the chain of torchattacks' APGD, APGDT, FAB and Square, ports of the originals, in the order and with the
budgets of the paper (its own AutoAttack class takes 10 steps instead of 100); the model counts its passes. Where 1,000 take too
long, run the parts of that network first with --samples 200. Takes some hours on one core; networks of one's own (NAME=FILE of
`advkit train`) may follow as --own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advkit.atomic import write_whole
from advkit.attacks import standard
from advkit.backbones import load_model
from advkit.core import BALLS, DLR, Ball, CrossEntropy, Ensemble
from advkit.data import load_data
from advkit.defenses.crown import Crown
from advkit.engine.certify import certify
from advkit.engine.evaluate import evaluate
from advkit.results.statistics import share

PAGE = Path(__file__).parent.parent / "docs" / "autoattack.md"
PARTS = ("reference", "autoattack", "standard")
CERTIFIED = ("mnist_provable_01", "cifar10_provable_small_8")
ABLATED_SAMPLES = 200
ABLATED = ("cifar10_resnet20", "cifar10_adv_cnna_4", "mnist_adv_cnna", "fashion-fast-at")


@dataclass(frozen=True)
class Net:
    """A network, its pictures, its threat."""

    name: str
    model: str
    data: str
    norm: str
    eps: str
    samples: int

    @property
    def ball(self) -> Ball:
        """The threat."""
        return BALLS[self.norm](self.eps)


SHARED = [
    ("cifar10_adv_resnet2b", "cifar10_test_1000", "linf", "2/255"),
    ("cifar10_adv_cnna_2", "cifar10_test_1000", "linf", "2/255"),
    ("cifar10_adv_cnna_4", "cifar10_test_1000", "linf", "4/255"),
    ("cifar10_provable_small_8", "cifar10_test_1000", "linf", "8/255"),
    ("cifar10_provable_l2_36", "cifar10_test_1000", "l2", "36/255"),
    ("cifar10_resnet20", "cifar10_test_1000", "linf", "1/255"),
    ("mnist_adv_cnna", "mnist_test_5000", "linf", "0.3"),
    ("mnist_provable_01", "mnist_test_5000", "linf", "0.1"),
    ("mnist_lenet5_clean", "mnist_test_5000", "linf", "0.1"),
    ("mnist_trades", "mnist_test_5000", "linf", "0.3"),
]


_SEEN = (
    "The rivals (`malt`) earn most: without them up to ten examples more stand. Their order and their 100 steps count on the",
    "undefended ResNet-20. What AutoAttack has more on the embedded signs falls to nine rivals, at three times the backward",
    "passes. The Squares count where gradients mislead (mnist_adv_cnna, Fashion-MNIST), each makes up for the other here, and",
    "giving up saves most of their queries. `pma` saves backward passes on the undefended network only.",
)


class Counting(nn.Module):
    """Counts the rows asked, and those whose gradient was taken."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.forwards, self.backwards = inner, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        """Ask, and count."""
        self.forwards += len(x)
        logits: Tensor = self.inner(x)
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, grad: Tensor) -> Tensor:
        self.backwards += len(grad)
        return grad


def reference(model: nn.Module, x: Tensor, y: Tensor, net: Net) -> tuple[Tensor, int, int]:
    """Which stand, (N,) bool, and passes."""
    import torchattacks

    counting = Counting(model).eval()  # torchattacks leaves a model in the mode that it was found in
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    threat = {"norm": {"linf": "Linf", "l2": "L2"}[net.norm], "eps": float(net.ball.eps), "seed": 0}
    stages = {
        "APGD": {"loss": "ce", "steps": 100},
        "APGDT": {"n_classes": classes, "steps": 100},
        "FAB": {"n_classes": classes, "steps": 100, "multi_targeted": True},
        "Square": {"n_queries": 5000},
    }
    with torch.no_grad():
        stands = torch.cat([model(rows).argmax(1) for rows in x.split(250)]) == y
    for name, settings in stages.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attack = getattr(torchattacks, name)(counting, **threat, **settings)
            for part in torch.split(stands.nonzero().squeeze(1), 250):
                found = attack(x[part], y[part])
                with torch.no_grad():
                    stands[part] = model(found).argmax(1) == y[part]
        passes = f"{counting.forwards:>10,} {counting.backwards:>10,}"
        print(f"    {name:24} {100 * float(stands.double().mean()):.1f} %  {passes}", flush=True)
    return stands, counting.forwards, counting.backwards


def ours(name: str) -> Callable[[nn.Module, Tensor, Tensor, Net], tuple[Tensor, int, int]]:
    """An ensemble of advkit."""

    def run(model: nn.Module, x: Tensor, y: Tensor, net: Net) -> tuple[Tensor, int, int]:
        from advkit.catalog import ATTACKS

        result = evaluate(model, (x, y), ATTACKS.create(name, threat=net.ball))
        rows = result.rows()
        for row in rows:
            print(f"    {row.attack:24} {row.accuracy.percent} %  {row.forwards:>10,} {row.backwards:>10,}", flush=True)
        return result.stands(net.eps), sum(r.forwards for r in rows), sum(r.backwards for r in rows)

    return run


def variants(ball: Ball) -> dict[str, Ensemble]:
    """`standard` as it is, without each of its members, and with others in their places."""
    whole = standard(ball)
    found = {"standard": whole}
    for left_out, _ in whole.stages:
        kept = tuple((name, attack) for name, attack in whole.stages if name != left_out)
        found[f"without {left_out}"] = Ensemble(kept)
    changes: dict[str, dict[str, dict[str, Any]]] = {
        "cross-entropy for the margin": {"pma": {"loss": CrossEntropy()}},
        "DLR for the margin": {"pma": {"loss": DLR()}},
        "rivals by logits, not MALT": {"malt": {"ranking": "logits"}},
        "nine rivals": {"malt": {"targets": 9}},
        "seven rivals with 40 steps": {"malt": {"targets": 7, "steps": 40}},
        "Square-near from its own start": {"square-near": {"resumes": False}},
        "Square without giving up": {name: {"patience": 0} for name in ("square-near", "square")},
    }
    for name, change in changes.items():
        stages = ((stage, replace(attack, **change.get(stage, {}))) for stage, attack in whole.stages)
        found[name] = Ensemble(tuple(stages))
    return found


def certified(net: Net, work: Path) -> None:
    """Which examples CROWN proves to stand, kept as JSON."""
    file = _file(net, "certified", work)
    if file.exists():
        return
    data = load_data(net.data).head(net.samples)
    found = certify(load_model(net.model, data=data), data, Crown(eps=float(net.ball.eps)))
    stands = found.certified_at(float(net.ball.eps))
    print(f"{net.name} certified: {int(stands.sum())} of {len(data)}", flush=True)
    write_whole(file, lambda path: path.write_text(json.dumps([int(each) for each in stands])))


def ablation(net: Net, work: Path) -> None:
    """Every variant on one network, kept as JSON."""
    file = _file(net, "ablation", work)
    if file.exists():
        return
    data = load_data(net.data).head(ABLATED_SAMPLES)
    model = load_model(net.model, data=data)
    print(f"{net.name} ablation", flush=True)
    found = {}
    for name, ensemble in variants(net.ball).items():
        result = evaluate(model, data, ensemble)
        rows = result.rows()
        passes = [sum(getattr(row, way) for row in rows) for way in ("forwards", "backwards")]
        found[name] = [int(result.stands(net.eps).sum()), len(data), *passes]
        print(f"    {name:42} {found[name]}", flush=True)
    write_whole(file, lambda path: path.write_text(json.dumps(found)))


def main() -> None:
    """Run what is not there yet, then write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ADVKIT_DATA", "../shared/data")))
    parser.add_argument("--only", default="")
    parser.add_argument("--part", choices=(*PARTS, "ablation", "certified"), action="append")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--own", action="append", default=[], metavar="NAME=FILE", help="Fashion-MNIST weights, at 0.2")
    given = parser.parse_args()
    nets = [
        Net(name, f"{given.data}/model_defs.py:load:{name}", f"{given.data}/{data}.npz", norm, eps, given.samples)
        for name, data, norm, eps in SHARED
    ]
    nets.append(Net("signs (embedded, standard)", "resnet", "signs", "linf", "4/255", given.samples))
    for text in given.own:
        name, _, path = text.partition("=")
        pictures = f"{given.data}/fashion_mnist_test_5000.npz"
        nets.append(Net(f"fashion-{name}", path, pictures, "linf", "0.2", given.samples))
    given.work.mkdir(parents=True, exist_ok=True)
    for net in nets:
        for part in given.part or (*PARTS, "ablation", "certified"):
            if given.only not in net.name or net.name not in {"ablation": ABLATED, "certified": CERTIFIED}.get(
                part, [net.name]
            ):
                continue
            if part == "ablation":
                ablation(net, given.work)
            elif part == "certified":
                certified(net, given.work)
            else:
                measure(net, part, given.work)
    if not given.only and not given.part:
        PAGE.write_text(page(nets, given.work))


def measure(net: Net, part: str, work: Path) -> None:
    """One part of one network, kept as JSON."""
    file = _file(net, part, work)
    if file.exists():
        return
    data = load_data(net.data).head(net.samples)
    model = load_model(net.model, data=data)
    x, y = data.tensors()
    began = time.perf_counter()
    print(f"{net.name} {part}", flush=True)
    run = reference if part == "reference" else ours(part)
    stands, forwards, backwards = run(model, x, y, net)
    with torch.no_grad():
        clean = torch.cat([model(rows).argmax(1) for rows in x.split(250)]) == y
    found = {
        "n": len(x),
        "clean": int(clean.sum()),
        "stands": stands.int().tolist(),
        "forwards": forwards,
        "backwards": backwards,
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(f"  {100 * sum(found['stands']) / len(x):.1f} %, {forwards:,} forward, {backwards:,} backward", flush=True)
    write_whole(file, lambda path: path.write_text(json.dumps(found)))


def page(nets: list[Net], work: Path) -> str:
    """The tables, from what was kept."""
    kept = {
        net: {
            part: json.loads(file.read_text())
            for part in (*PARTS, "ablation", "certified")
            if (file := _file(net, part, work)).exists()
        }
        for net in nets
    }
    lines = [
        "# AutoAttack, ours and an independent one",
        "",
        "Made by `python benchmarks/autoattack.py`; do not edit.",
        "Robust accuracy in per cent with its 95 % interval, and the passes of all examples together. The reference is the",
        "chain of torchattacks' APGD, APGDT, FAB (targeted) and Square with the paper's budgets (100 steps, 9 rivals, 5,000",
        "queries), seed 0. Of the networks where 1,000 examples take longer than 20 minutes the first 200 are shown; there one",
        "example is half a point.",
        "",
        "| network | threat | n | clean | reference | `autoattack` | `standard` | forward passes: reference, `autoattack`,"
        " `standard` | backward passes | `standard` takes of `autoattack`: forward, backward |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for net, found in kept.items():
        if not all(part in found for part in PARTS):
            continue
        parts = [found[part] for part in PARTS]
        n = parts[0]["n"]
        ways = ("forwards", "backwards")
        lines.append(
            f"| {net.name} | {net.ball.label} | {n:,} | {100 * parts[0]['clean'] / n:.1f} | "
            + " | ".join(share(sum(each["stands"]), n).percent for each in parts)
            + "".join(f" | {', '.join(format(each[way], ',') for each in parts)}" for way in ways)
            + f" | {', '.join(f'1/{parts[1][way] / parts[2][way]:.1f}' for way in ways)} |"
        )
    lines += [
        "",
        "The stages of `standard` and their steps were chosen on the first 500 pictures of the CIFAR-10 and MNIST networks.",
        "How its two Squares give up was chosen on pictures 1,000 to 2,500 of mnist_adv_cnna and 1,000 to 1,500 of the",
        "Fashion-MNIST networks (our own training runs): none of these is in the table.",
        "",
        "## Below a certificate",
        "",
    ]
    for net, found in kept.items():
        if "certified" not in found:
            continue
        sure = found["certified"]
        fallen = {
            part: sum(1 for certain, stands in zip(sure, found[part]["stands"], strict=False) if certain and not stands)
            for part in PARTS
            if part in found
        }
        lines.append(
            f"- {net.name}: CROWN certifies {sum(sure):,} of {len(sure):,} examples at {net.ball.label}. Of these fall: "
            + ", ".join(f"{count} to {part if part == 'reference' else f'`{part}`'}" for part, count in fallen.items())
            + "."
        )
    lines += [
        "",
        "## Which member earns its passes",
        "",
        "How many of the examples stand (forward / backward passes of all), without each member of `standard` and with",
        "others in their places.",
        "",
    ]
    ablated = {net.name: found["ablation"] for net, found in kept.items() if "ablation" in found}
    if ablated:
        lines.append("| | " + " | ".join(f"{name} (n = {ABLATED_SAMPLES})" for name in ablated) + " |")
        lines.append("| --- " * (len(ablated) + 1) + "|")
        for name in next(iter(ablated.values())):
            cells = (f"{one[name][0]} ({one[name][2]:,} / {one[name][3]:,})" for one in ablated.values())
            lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *_SEEN, "", f"{platform.machine()}, torch {torch.__version__}, float32, one thread.", ""]
    return "\n".join(lines)


def _file(net: Net, part: str, work: Path) -> Path:
    return work / f"{net.name.split()[0]}-{part}.json"


if __name__ == "__main__":
    main()
