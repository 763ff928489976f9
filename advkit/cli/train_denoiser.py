"""advkit train-denoiser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from advkit.cli._command import Command, PathType, refuse_idle
from advkit.cli._shared import DataChoice, ModelChoice, bar, console, model_and_data, pairs, writable_folder
from advkit.errors import InputError


@click.command(name="train-denoiser", cls=Command)
@model_and_data
@click.option(
    "--denoiser",
    type=click.Choice(["dncnn", "unet", "diffusion"]),
    default="unet",
    show_default=True,
    help="The network: dncnn, unet (for dae and hgd), or diffusion.",
)
@click.option("--denoiser-set", multiple=True, metavar="KEY=VALUE", help="A setting of the network: width, depth.")
@click.option(
    "--defense",
    help="The objective: denoise, stability, logit-guided, noise-prediction. "
    "[default: noise-prediction for diffusion, else denoise]",
)
@click.option("--eps", help="Radius of adversarial noise, such as 8/255 (Linf).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the objective.")
@click.option("--without-guide", is_flag=True, help="Ask no model: for objectives that need none.")
@click.option("--start", metavar="FILE", help="A denoiser whose training goes on.")
@click.option("--samples", type=int, help="Train on the first so many examples. [default: all]")
@click.option("--held-out", metavar="NAME|PATH", help="Data to measure on. [default: the test split of --data]")
@click.option("--held-out-samples", type=int, help="Measure on the first so many. [default: all]")
@click.option("--epochs", default=10, show_default=True, help="Rounds through the data.")
@click.option("--batch-size", default=64, show_default=True, help="Examples per step.")
@click.option("--learning-rate", default=2e-3, show_default=True, help="Peak of AdamW's one-cycle schedule.")
@click.option("--shift", default=2, show_default=True, help="Pixels by which pictures are moved at random.")
@click.option("--out", required=True, type=PathType(dir_okay=False), help="File to write.")
@click.option("--fresh", is_flag=True, help="Begin anew, where the same command would go on.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    choice: ModelChoice,
    given: DataChoice,
    denoiser: str,
    denoiser_set: tuple[str, ...],
    defense: str | None,
    eps: str | None,
    settings: tuple[str, ...],
    without_guide: bool,
    start: str | None,
    samples: int | None,
    held_out: str | None,
    held_out_samples: int | None,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    shift: int,
    out: Path,
    fresh: bool,
    quiet: bool,
) -> None:
    """Train a denoiser to stand in front of a model, and write its weights for --defense.

    The model that --model and --weights name guides the objectives that ask one, and is measured behind the denoiser. A
    checkpoint lies beside --out, in a folder that ends in .training.

    \b
    advkit train-denoiser --denoiser dncnn --set sigma=0.25 --out dncnn.safetensors
    advkit train-denoiser --defense logit-guided --eps 8/255 --out hgd.safetensors
    advkit train-denoiser --denoiser diffusion --out diffusion.safetensors
    advkit attack --defense dncnn:dncnn.safetensors
    """
    from advkit.catalog import DATASETS, DEFENSES
    from advkit.core import Linf
    from advkit.core.defense import Objective
    from advkit.engine.denoise import RECIPE, train_denoiser

    ctx = click.get_current_context()
    if without_guide:
        refuse_idle(ctx, "with --without-guide", "model", "weights", "normalize", "model_settings")
    entry = DEFENSES[defense or ("noise-prediction" if denoiser == "diffusion" else "denoise")]
    values: dict[str, object] = dict(pairs(settings, "--set"))
    if "threat" in values:
        raise InputError("the threat is set by --eps, for example --eps 8/255.")
    if eps is not None:
        if "threat" not in entry.settings:
            raise InputError(f"--eps reaches nothing: {entry.name} knows no radius. Try --defense logit-guided.")
        values["threat"] = Linf(eps)
    objective = entry.create(**values)
    if not isinstance(objective, Objective):
        raise InputError(f"{entry.name} is no objective; a denoiser is trained by denoise, stability, logit-guided ...")
    if eps is not None and getattr(objective, "noise", "adversarial") != "adversarial":
        raise InputError(
            "--eps reaches nothing: it is of adversarial noise, and this is gaussian. Add --set noise=adversarial."
        )
    network = {key: _whole(key, value) for key, value in pairs(denoiser_set, "--denoiser-set").items()}
    recipe = replace(
        RECIPE, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, shift=shift, seed=choice.seed
    )
    from advkit.results.lock import locked

    if out.suffix != ".safetensors":
        raise InputError(f"--out is {out}; weights are written as .safetensors, so give a name that ends so.")
    writable_folder(out.parent)
    splits = given.name in DATASETS and "split" in DATASETS[given.name].settings
    if not (held_out or splits):
        refuse_idle(ctx, f"without --held-out: {given.name} has no test split", "held_out_samples")
    pictures = (replace(given, settings=(*given.settings, "split=train")) if splits else given).build(samples)
    kept = replace(given, name=held_out, settings=()) if held_out else given
    test = kept.build(held_out_samples) if held_out or splits else None
    guide = None if without_guide else choice.build(pictures)
    ctx.with_resource(locked(out.with_suffix(".training"), "training"))

    screen = console(quiet)
    asked = "" if guide is None else f", with {guide.name} ({guide.weights})"
    plan = f"{denoiser} on {pictures.name} ({len(pictures):,} examples), {entry.name}{asked}, {epochs} epochs"
    screen.print(f"{plan}, seed {choice.seed}", markup=False)
    with bar(screen, "training") as progress:
        trained = train_denoiser(
            pictures, objective, out, denoiser=denoiser, settings=network, recipe=recipe, guide=guide, held_out=test,
            start=start, device=choice.device_name, on_step=lambda done, total, loss: progress(done, total),
            folder=out.with_suffix(".training"), fresh=fresh,
        )  # fmt: skip
    screen.print(f"{trained.restored}, on held-out examples; written to {out}", markup=False)


def _whole(key: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--denoiser-set {key} is {text!r}; give a whole number.") from None
