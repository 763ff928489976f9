"""What the training loop adds to bare passes, in processor time: an epoch over (forward, backward, step of the optimiser).

    python benchmarks/training_overhead.py [--model resnet20] [--examples 1024] [--batch-size 128] [--rounds 3]

On one thread, the best of the rounds; nothing is held out. Adversarial training is compared with as many bare passes as it
takes: k for an attack of k steps, and one to train.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F

from advkit import load_model
from advkit.data import TensorData
from advkit.engine.defend import build_objective
from advkit.engine.training import Recipe, train


def main() -> None:
    """Print a line for each objective and augmentation."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--model", default="resnet20")
    arguments.add_argument("--examples", type=int, default=1024)
    arguments.add_argument("--batch-size", type=int, default=128)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(given.examples, 3, 32, 32, generator=generator)
    data = TensorData((255 * x).byte(), torch.arange(given.examples) % 10)
    net = load_model(given.model, weights="random", data=data, classes=10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    pictures, labels = data.tensors()

    def bare() -> None:
        net.train()
        for part, y in zip(pictures.split(given.batch_size), labels.split(given.batch_size), strict=True):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(net(part), y).backward()
            optimizer.step()

    bare()
    one = best(bare, given.rounds)
    print(f"{given.model}, {given.examples} examples, batches of {given.batch_size}: a bare epoch takes {one:.2f} s")
    for text, augment, passes in (
        ("standard", "none", 1),
        ("standard", "shift", 1),
        ("standard", "crop+flip+cutmix", 1),
        ("standard", "randaugment", 1),
        ("pgd-at:steps=4", "shift", 5),
    ):
        recipe = Recipe(1, given.batch_size, 0.01, validation=0, bfloat16=False, augment=augment)
        objective = build_objective(text)
        took = best(lambda r=recipe, o=objective: train(net, data, o, r), given.rounds)  # type: ignore[misc]
        print(f"{text:16} {augment:18} {took:6.2f} s = {took / (passes * one):.3f} x {passes} bare", flush=True)


def best(work: object, rounds: int) -> float:
    """Processor seconds of the fastest round."""
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        work()  # type: ignore[operator]
        times.append(time.process_time() - begun)
    return min(times)


if __name__ == "__main__":
    main()
