"""Patches on examples that PatchCleanser certifies: none of 10,000 random and 200 optimised ones may change its answer.

    python benchmarks/patch_soundness.py [--data ../shared/data] [--patch 3] [--masks 6] [--samples 400]

A small network is trained with holes (``cutout``), on the traffic signs of GTSRB where they are found, else on the built-in
ones. Then its test pictures are certified, and those that are certified get patches: noise, black and white, one colour,
squares of other pictures; and patches optimised by signs of the gradient inside the square, at the places where the gradient
is largest, half of them through the masks as well. Exits with 1 where a certified answer changes.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import BACKBONES
from advkit.core.rng import Rng, identify
from advkit.data import load_data
from advkit.defenses._masks import square_masks
from advkit.defenses.cutout import Cutout
from advkit.defenses.patch_cleanser import PatchCleanser

ROWS = 1024  # asked at once
KINDS = ("noise", "black and white", "one colour", "of another picture")


@dataclass(frozen=True)
class Pictures:
    """Training and test pictures, (N, 3, 32, 32) in [0, 1], with their classes."""

    name: str
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def gtsrb(folder: Path) -> Pictures:
    """The German traffic signs; tracks are whole on either side."""
    parts: list[Tensor] = []
    for split in ("train", "test"):
        with np.load(folder / f"gtsrb_{split}.npz") as file:
            parts += [torch.from_numpy(file["x"]).permute(0, 3, 1, 2).contiguous().float() / 255]
            parts += [torch.from_numpy(file["y"].astype(np.int64))]
    return Pictures("GTSRB", *parts)


def built_in(count: int) -> Pictures:
    """The drawn signs, fewer than there are: drawing is slow."""
    train, test = load_data("signs", split="train", samples=8000), load_data("signs", split="test", samples=count)
    halves = [(data.pictures(range(len(data))), data.labels) for data in (train, test)]
    return Pictures("signs", *halves[0], *halves[1])


def trained(data: Pictures, epochs: int, side: int) -> nn.Module:
    """A small network that has seen two holes in every picture, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = BACKBONES.create("cnn", classes=int(data.y.max()) + 1, widths="16,32,64", batch_norm=True).train()
    objective = Cutout(holes=2, side=side, value=0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    steps = epochs * (len(data.x) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        chosen = torch.randint(len(data.x), (128,), generator=generator)
        loss = objective(model, data.x[chosen], data.y[chosen], step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def streams(x: Tensor) -> Rng:
    """Those of the pictures."""
    return Rng.of(0, identify(x))


def pasted(x: Tensor, patch: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Each picture with its square (N, C, P, P) at its place."""
    side, changed = patch.shape[-1], x.clone()
    for row in range(len(x)):
        changed[row, :, top[row] : top[row] + side, left[row] : left[row] + side] = patch[row]
    return changed


def random_patches(x: Tensor, side: int, kind: str, generator: torch.Generator) -> Tensor:
    """One patched picture for each."""
    places = torch.randint(x.shape[-1] - side + 1, (4, len(x)), generator=generator)
    patch = torch.rand(len(x), x.shape[1], side, side, generator=generator)
    if kind == "black and white":
        patch = patch[:, :1].round().expand_as(patch)
    elif kind == "one colour":
        patch = patch[:, :, :1, :1].round().expand_as(patch)
    elif kind == "of another picture":
        others = torch.randint(len(x), (len(x),), generator=generator)
        cut = zip(others.tolist(), places[2].tolist(), places[3].tolist(), strict=True)
        patch = torch.stack([x[o, :, i : i + side, j : j + side] for o, i, j in cut])
    return pasted(x, patch, places[0], places[1])


def optimised_patches(model: nn.Module, x: Tensor, y: Tensor, side: int, rank: int, masks: Tensor | None) -> Tensor:
    """Patches that raise the loss, at the place whose gradient is of that rank; through ``masks`` (M, H, W) too if given."""

    def gradient(points: Tensor) -> Tensor:
        points = points.detach().requires_grad_()
        views = points[:, None]
        if masks is not None:
            views = torch.cat([views, torch.where(masks[None, :, None], 0.5, views)], 1)
        logits = model(views.flatten(0, 1))
        loss = F.cross_entropy(logits, y.repeat_interleave(views.shape[1]), reduction="sum")
        return torch.autograd.grad(loss, points)[0]

    felt = F.avg_pool2d(gradient(x).abs().sum(1, keepdim=True), side, 1).flatten(1)
    place = felt.argsort(1, descending=True)[:, min(rank * side, felt.shape[1] - 1)]
    across = x.shape[-1] - side + 1
    top, left = place // across, place % across
    inside = pasted(torch.zeros_like(x), torch.ones(len(x), x.shape[1], side, side), top, left)
    changed = torch.where(inside > 0, 0.5, x)
    for step in range(40):
        size = 0.25 if step < 10 else 0.1
        changed = (changed + size * inside * gradient(changed).sign()).clamp(0, 1)
    return changed


def main() -> int:
    """Train, certify, attack; print the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--patch", type=int, default=3)
    parser.add_argument("--masks", type=int, default=6)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--random", type=int, default=10_000)
    parser.add_argument("--optimised", type=int, default=200)
    given = parser.parse_args()
    data = gtsrb(given.data) if (given.data / "gtsrb_test.npz").exists() else built_in(given.samples)
    started = time.perf_counter()
    model = trained(data, given.epochs, side=10)
    print(f"{data.name}: trained {given.epochs} epochs in {time.perf_counter() - started:.0f} s", flush=True)
    order = torch.randperm(len(data.x_test), generator=torch.Generator().manual_seed(1))[: given.samples]
    x, y = data.x_test[order], data.y_test[order]
    certifier = PatchCleanser(given.patch, given.masks, fill=0.5)
    found = certifier.certify(model, x, streams(x), ROWS)
    right, certified = found.prediction == y, found.radius >= given.patch
    shares = [share.double().mean() for share in (model(x).argmax(1) == y, right, certified, certified & right)]
    print(f"{certifier!r} on {given.samples} pictures:")
    print(
        "    clean {:.1%}, double masking {:.1%}, certified {:.1%}, certified and right {:.1%}".format(*shares),
        flush=True,
    )
    sure, answer = x[certified], found.prediction[certified]
    if not len(sure):
        print("nothing is certified: nothing to attack")
        return 1

    generator = torch.Generator().manual_seed(2)
    masks = square_masks(x.shape[2], x.shape[3], given.patch, given.masks)
    changed = {"random": [0, 0, 0], "optimised": [0, 0, 0]}

    def judge(kind: str, attacked: Tensor, chosen: Tensor) -> None:
        squares = (attacked != sure[chosen]).any(1)
        for lines in (squares.any(1), squares.any(2)):
            span = lines.shape[1] - lines.long().argmax(1) - lines.flip(1).long().argmax(1)
            assert bool((span[lines.any(1)] <= given.patch).all()), "more than a square was changed"
        told = certifier.predict(model, attacked, streams(attacked), ROWS)
        plain = model(attacked).argmax(1)
        counts = changed[kind]
        counts[0] += len(chosen)
        counts[1] += int((told != answer[chosen]).sum())
        counts[2] += int((plain != answer[chosen]).sum())

    for start in range(0, given.random, 250):
        chosen = torch.randint(len(sure), (min(250, given.random - start),), generator=generator)
        judge("random", random_patches(sure[chosen], given.patch, KINDS[start // 250 % len(KINDS)], generator), chosen)
    # Half through the plain network, half through some of the masks too; each example again at its next place.
    for start in range(0, given.optimised, 50):
        numbers = torch.arange(start, min(start + 50, given.optimised))
        through = masks[torch.randperm(len(masks), generator=generator)[:6]] if start // 50 % 2 else None
        chosen = numbers % len(sure)
        rank = start // len(sure)
        judge("optimised", optimised_patches(model, sure[chosen], answer[chosen], given.patch, rank, through), chosen)
    for kind, (tried, broken, plain) in changed.items():
        print(f"{kind}: {tried} patches on certified examples; answers of double masking changed: {broken}")
        print(f"    answers of the network by itself changed: {plain} ({plain / max(1, tried):.1%})")
    print(f"{time.perf_counter() - started:.0f} s")
    return int(any(broken for _, broken, _ in changed.values()))


if __name__ == "__main__":
    sys.exit(main())
