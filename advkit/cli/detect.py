"""advkit detect."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from advkit.cli._command import Command, PathType
from advkit.cli._shared import (
    DataChoice,
    ModelChoice,
    bar,
    check_format,
    console,
    defended,
    form_and_quiet,
    model_and_data,
    writable_folder,
)
from advkit.errors import InputError
from advkit.trust import Trust


@click.command(name="detect", cls=Command)
@model_and_data
@click.option("--by", default="feature-squeezing", show_default=True, metavar="NAME", help="The detector.")
@click.option("--squeezer", "squeezers", multiple=True, metavar="NAME", help="Of feature squeezing: a wrapper such as bits:5 "
              "or median:2; repeatable. [default: those published for such pictures]")  # fmt: skip
@click.option("--defense", default="none", show_default=True, metavar="NAME", help="What stands in front of the model.")
@click.option("--attack", default="pgd", show_default=True, metavar="NAME", help="An attack (advkit list attacks).")
@click.option("--norm", metavar="NAME", help="linf, l2, l1 or l0. [default: linf where the attack works in it]")
@click.option("--eps", metavar="RADIUS", help="[default: 8/255 in linf, 0.5 in l2, 12 in l1, 10 pixels in l0]")
@click.option("--steps", type=int, help="Steps of the attack. [default: 20 of pgd]")
@click.option("--loss", metavar="NAME", help="What the attack ascends (advkit list losses). [default: margin]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other setting of the attack.")
@click.option(
    "--weight", type=float, default=5.0, show_default=True, help="Of the detector's score in the adaptive loss."
)
@click.option("--samples", type=click.IntRange(1), default=200, show_default=True, help="The first so many examples; the "
              "threshold is chosen on the first half.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), help="Examples per pass. [default: by size]")
@click.option("--figure", type=PathType(), metavar="FILE", help="Draw ROC curves (.png, .svg, .pdf).")
@form_and_quiet
def command(
    choice: ModelChoice,
    pictures: DataChoice,
    by: str,
    squeezers: tuple[str, ...],
    defense: str,
    attack: str,
    norm: str | None,
    eps: str | None,
    steps: int | None,
    loss: str | None,
    settings: tuple[str, ...],
    weight: float,
    samples: int,
    batch_size: int | None,
    figure: Path | None,
    form: str,
    quiet: bool,
) -> None:
    """Tell how well a detector finds attacked pictures: made without it, and by an attack that knows it and evades it.

    \b
    advkit detect --figure roc.png
    advkit detect --squeezer bits:5 --squeezer median:2 --eps 4/255
    """
    from advkit.cli._attacks import build_attacks
    from advkit.core import Attack
    from advkit.defenses.feature_squeezing import FeatureSqueezing
    from advkit.engine.defend import read_defense
    from advkit.engine.detect import build_detector, detect
    from advkit.results.figures import check_suffix
    from advkit.results.roc import draw_roc
    from advkit.results.table import show

    # Parse
    check_format(form)
    if figure:
        check_suffix(figure)
        writable_folder(figure.parent)
    detector = build_detector(by)
    if squeezers:
        if not isinstance(detector, FeatureSqueezing):
            raise InputError(f"--squeezer belongs to feature-squeezing, not to {by}; leave it out.")
        if detector.squeezers != "auto":
            raise InputError(f"--squeezer and --by {by} both name squeezers; give them once.")
        detector = replace(detector, squeezers=";".join(squeezers))
    usual = {"steps": 20, "loss": "margin"} if attack == "pgd" else {}
    flags = usual | {key: value for key, value in (("steps", steps), ("loss", loss)) if value is not None}
    for text in settings:  # said by --set, it is not to be said twice
        flags.pop(text.partition("=")[0].replace("-", "_"), None)
    chosen = build_attacks((attack,), norm, (eps,) if eps else (), flags, settings)
    if len(chosen) > 1:
        raise InputError(f"--eps is {eps}; a table is of one radius.")
    if not isinstance(chosen[0], Attack):
        raise InputError(f"{attack} is an attack of several stages; give one of them, such as pgd.")
    wanted = read_defense(defense, Trust.of(defense))

    # Build
    screen = console(quiet)
    model, source = defended(choice, pictures, samples, wanted, screen)
    screen.print(f"threat {chosen[0].threat.label}, {attack}", markup=False)

    # Run
    with bar(screen, "attacks") as progress:
        found = detect(
            model,
            source,
            detector,
            chosen[0],
            samples=None,
            weight=weight,
            seed=choice.seed,
            batch_size=batch_size,
            name="+".join(squeezers) if squeezers else by,
            progress=lambda stage: progress,
        )

    # Render
    if form == "json":
        click.echo(json.dumps(found.to_json()))
    else:
        show([found.table()], form)
    if figure:
        curves = [each.curve for each in found.attacks if each.curve is not None]
        if not curves:
            raise InputError("no attacked picture fooled the model, so there is no curve to draw; give a larger --eps.")
        draw_roc(curves, figure, found.table().caption)
        screen.print(f"drew   {figure}", markup=False)
