"""How much longer the search of a sticker takes than the model passes and warps that it cannot do without.

    python benchmarks/sticker_speed.py [--steps 400] [--views 16] [--model resnet]

Times both on this machine, in seconds of this process (CPU time: other processes do not count), and prints their
ratio. The bare loop shows the same number of views of a plain sign to the model and takes the gradient, nothing else.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from advkit.backbones import load_model
from advkit.core.modes import borrowed
from advkit.core.rng import Rng
from advkit.data import load_data
from advkit.engine.design import Recipe, mask_of, optimise, rendered


def main() -> None:
    """Time both, one after the other."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=400)
    options.add_argument("--views", type=int, default=16)
    options.add_argument("--model", default="resnet")
    given = options.parse_args()
    torch.set_num_threads(1)
    data = load_data("signs")
    net = load_model(given.model, data=data)
    stage = rendered("stop", 32, 750.0)
    mask = mask_of("bars", stage.cover, 750.0, stage.filled)
    label, target = data.classes.index("stop"), data.classes.index("yield")
    streams = Rng.of(0, torch.zeros(1, dtype=torch.long))
    draws = [stage.draw(streams.fold(step), given.views) for step in range(given.steps)]
    goal = torch.full((given.views,), target)
    began = time.process_time()
    with borrowed(net):
        for seen in draws:
            colours = stage.under[None].clone().requires_grad_()
            logits = net(stage.show(colours, mask, "replace", seen))
            torch.autograd.grad(torch.nn.functional.cross_entropy(logits, goal), colours)
    bare = time.process_time() - began
    began = time.process_time()
    optimise(net, stage, mask, label, target, Recipe(steps=given.steps, views=given.views))
    whole = time.process_time() - began
    sys.stdout.write(
        f"{net.name}: {given.steps} steps of {given.views} views: {whole:.1f} s, of which passes and warps alone {bare:.1f} s; "
        f"ratio {whole / bare:.2f}\n"
    )


if __name__ == "__main__":
    main()
