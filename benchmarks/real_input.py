"""Run the commands below on real pictures and real weights, and write what they print to docs/measured.md.

    python benchmarks/real_input.py [--data ../shared/data] [--only TEXT]

Takes about half an hour on two cores. Each command stands above its table, so any row can be run by itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

PAGE = Path(__file__).parent.parent / "docs" / "measured.md"
IMAGENET = "--data {data}/imagenet_sample --size 224 --samples 201 --attack fgsm --attack pgd --steps 10 --eps 4/255"
SECTIONS: list[tuple[str, list[str]]] = [
    (
        "ImageNet photos: FGSM and PGD-10 at 4/255",
        [
            "advkit attack --model torchvision:mobilenet_v2 --weights {data}/weights/imagenet_mobilenet_v2.safetensors "
            + IMAGENET,
            "advkit attack --model torchvision:squeezenet1_1 --weights {data}/weights/imagenet_squeezenet1_1.safetensors "
            + IMAGENET,
        ],
    ),
    (
        "CIFAR-10 ResNets: PGD-20 at 8/255 leaves nothing, at 1/255 something",
        [
            f"advkit attack --model resnet{depth} --weights {{data}}/weights/cifar10_resnet{depth}.safetensors "
            "--normalize imagenet --data {data}/cifar10_test_1000.npz --samples 1000 --attack pgd --steps 20 "
            "--eps 1/255,8/255"
            for depth in (20, 32, 56)
        ],
    ),
    (
        "CIFAR-10, adversarially trained at 2/255: PGD on several losses",
        [
            "advkit attack --model {data}/model_defs.py:load:cifar10_adv_resnet2b --data {data}/cifar10_test_1000.npz "
            "--samples 500 --attack worst-case --eps 2/255",
        ],
    ),
    (
        "MNIST, robust at 0.3: FGSM, PGD and PGD with restarts",
        [
            "advkit attack --model {data}/model_defs.py:load:mnist_trades --data {data}/mnist_test_5000.npz "
            "--samples 1000 --attack fgsm --attack pgd --eps 0.3",
            "advkit attack --model {data}/model_defs.py:load:mnist_trades --data {data}/mnist_test_5000.npz "
            "--samples 1000 --attack pgd --restarts 5 --eps 0.3",
            "advkit attack --model {data}/model_defs.py:load:mnist_adv_cnna --data {data}/mnist_test_5000.npz "
            "--samples 1000 --attack fgsm --attack pgd --attack worst-case --eps 0.3",
        ],
    ),
    (
        "GTSRB: a backbone trained for a few minutes, then attacked",
        [
            "advkit train --model resnet --data {data}/gtsrb_train.npz --held-out {data}/gtsrb_test.npz --epochs 10 "
            "--out {temporary}/gtsrb.safetensors",
            "advkit attack --model {temporary}/gtsrb.safetensors --data {data}/gtsrb_test.npz --samples 500 "
            "--attack noise --attack fgsm --attack pgd --attack worst-case --eps 2/255,8/255",
        ],
    ),
    (
        "The embedded signs: standard and adversarially trained",
        [
            "advkit attack --model resnet --samples 1000 --attack noise --attack fgsm --attack pgd --attack worst-case",
            "advkit attack --model resnet --weights adversarial --samples 500 --attack noise --attack fgsm --attack pgd "
            "--attack worst-case",
            "advkit attack --model resnet --attack noise --attack salt --attack salt-greedy --eps 1,5,10 --norm l0",
        ],
    ),
]


def main() -> None:
    """Run every command and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("ADVKIT_DATA", "../shared/data"))
    parser.add_argument("--only", default="", help="sections whose title holds this text, printed and not written")
    given = parser.parse_args()
    lines = [
        "# Measured on real input",
        "",
        "Made by `python benchmarks/real_input.py`; do not edit. DATA is the folder of pictures and weights.",
        f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads; seconds are of a shared "
        "machine, so compare passes, not seconds.",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        for title, commands in SECTIONS:
            if given.only not in title:
                continue
            lines += ["", f"## {title}"]
            for command in commands:
                lines += ["", "<!-- needs: data -->", "```console", f"$ {shown(command)}", "```", ""]
                printed = run(command.format(data=given.data, temporary=temporary))
                lines += [printed.replace(given.data, "DATA").replace(temporary, ".")]
    text = "\n".join(lines) + "\n"
    if given.only:
        print(text)
    else:
        PAGE.write_text(text)


def shown(command: str) -> str:
    """The command as a reader would type it."""
    return command.format(data="DATA", temporary=".")


def run(command: str) -> str:
    """What the command prints, as Markdown."""
    print(command, file=sys.stderr, flush=True)
    words = [sys.executable, "-m", "advkit", *shlex.split(command)[1:]]
    training = words[3] == "train"
    words += [] if training else ["--format", "markdown", "--quiet"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}\n{done.stderr}")
    return (" ".join(done.stderr.split()).partition(";")[0] if training else done.stdout).strip()


if __name__ == "__main__":
    main()
