"""advkit train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from advkit.cli._shared import DataChoice, ModelChoice, bar, console, model_and_data, pairs, writable_folder
from advkit.errors import InputError


@click.command(name="train")
@model_and_data
@click.option("--defense", default="standard", show_default=True, help="The objective (advkit list defenses).")
@click.option("--eps", help="Radius of an adversarial objective, such as 8/255 (Linf).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the defense.")
@click.option("--samples", type=int, help="Train on the first so many examples. [default: all]")
@click.option(
    "--held-out", metavar="NAME|PATH", help="Data to measure accuracy on. [default: the test split of --data]"
)
@click.option("--epochs", default=15, show_default=True, help="Rounds through the data.")
@click.option("--batch-size", default=128, show_default=True, help="Examples per step.")
@click.option("--learning-rate", default=0.1, show_default=True, help="Peak of the one-cycle schedule.")
@click.option("--shift", default=2, show_default=True, help="Pixels by which pictures are moved at random.")
@click.option("--variant", help="Name under which the weights are found. [default: the defense]")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    choice: ModelChoice,
    given: DataChoice,
    defense: str,
    eps: str | None,
    settings: tuple[str, ...],
    samples: int | None,
    held_out: str | None,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    shift: int,
    variant: str | None,
    out: Path,
    quiet: bool,
) -> None:
    """Train a backbone and write its weights as a .safetensors file that advkit attack reads.

    \b
    advkit train --model resnet --data signs --out resnet.safetensors
    advkit train --defense pgd-at --eps 8/255 --out robust.safetensors
    advkit train --data train.npz --held-out test.npz --out own.safetensors
    """
    from advkit.backbones import save_model
    from advkit.catalog import DATASETS, DEFENSES
    from advkit.core import Linf
    from advkit.core.defense import Objective
    from advkit.engine.evaluate import accuracy
    from advkit.engine.train import Recipe, train

    entry = DEFENSES[defense]
    values: dict[str, object] = dict(pairs(settings, "--set"))
    if "threat" in values:
        raise InputError("the threat is set by --eps, for example --eps 8/255.")
    if eps is not None:
        if "threat" not in entry.settings:
            raise InputError(f"--eps reaches nothing: {defense} trains on pictures as they are. Try --defense pgd-at.")
        values["threat"] = Linf(eps)
    objective = entry.create(**values)
    if not isinstance(objective, Objective):
        raise InputError(
            f"{defense} stands in front of a model that is trained already; train with one of another kind."
        )
    recipe = Recipe(epochs, batch_size, learning_rate, shift=shift, seed=choice.seed)
    if out.suffix != ".safetensors":
        raise InputError(f"--out is {out}; weights are written as .safetensors, so give a name that ends so.")
    writable_folder(out.parent)
    splits = given.name in DATASETS and "split" in DATASETS[given.name].settings
    pictures = (replace(given, settings=(*given.settings, "split=train")) if splits else given).build(samples)
    test = (replace(given, name=held_out, settings=()) if held_out else given).build()
    net = (replace(choice, weights="random") if choice.weights == "auto" else choice).build(pictures)

    screen = console(quiet)
    plan = f"{net.name} on {pictures.name} ({len(pictures):,} examples), {defense}, {epochs} epochs, seed {choice.seed}"
    screen.print(plan, markup=False)
    with bar(screen, "training") as progress:
        train(net, pictures, objective, recipe, lambda epoch: progress(epoch.number, epochs))

    reached = accuracy(net, test)
    facts = {
        "data": pictures.name,
        "variant": variant or defense,
        "recipe": f"{objective!r} {recipe!r} on {len(pictures)} examples of {pictures.name}",
        "accuracy": f"{reached.value:.4f} [{reached.low:.4f}, {reached.high:.4f}] on {len(test)} examples",
    }
    channels, height, _ = pictures.shape
    save_model(out, net, backbone=net.name, classes=pictures.classes, channels=channels, size=height, extra=facts)
    kept = "held-out" if held_out or splits else "(not held out) training"
    found = f"accuracy without attack {reached.percent} % on {len(test):,} {kept} examples; written to {out}"
    screen.print(found, markup=False)
