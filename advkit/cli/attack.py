"""advkit attack."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advkit.cli._attacks import build_attacks, named
from advkit.cli._command import Command, PathType
from advkit.cli._pictures import Gallery, check_target, narrowed, picture_and_model
from advkit.cli._saved import as_option, judged_files, kept_form, recipe_of
from advkit.cli._shared import DataChoice, ModelChoice, bar, check_format, console, model_and_data, writable_folder
from advkit.cli._signals import exit_code
from advkit.errors import InputError, WriteError
from advkit.trust import Trust

if TYPE_CHECKING:
    from rich.console import Console

    from advkit.backbones import Classifier
    from advkit.core import Attack, Ensemble
    from advkit.core.fitted import Applied
    from advkit.data import Data
    from advkit.engine.defend import Against
    from advkit.engine.examples import Finished
    from advkit.results.outcome import Evaluation

_SAMPLES = 200


@click.command(name="attack", cls=Command)
@model_and_data
@click.option("--attack", "attacks", multiple=True, metavar="NAME", help="An attack (advkit list attacks); repeatable. "
              "[default: standard; with --steps, --step-size, --restarts or --set: worst-case, which is PGD]")  # fmt: skip
@click.option("--defense", default="none", show_default=True, metavar="NAME", help="What defends the model: jpeg:75, a chain "
              "jpeg:75+bits:4, FILE.py:NAME, or how shipped weights were trained (pgd-at). It is attacked twice: with what was "
              "made on the model without it (oblivious), and knowing it (adaptive).")  # fmt: skip
@click.option("--oblivious", "against", flag_value="oblivious", help="Of the two, only the oblivious attack.")
@click.option("--adaptive", "against", flag_value="adaptive", help="Of the two, only the adaptive attack.")
@click.option("--surrogate", metavar="NAME[@WEIGHTS]", help="Make the attacks on this model, and show what each comes to to "
              "the model once: transfer. Attacks made to carry over: mi-, di-, ti-, ni-, si-, vmi-fgsm.")  # fmt: skip
@click.option("--norm", metavar="NAME", help="linf, l2, l1, l0, area, shade or veil. "
              "[default: linf where the attacks work in it]")  # fmt: skip
@click.option("--eps", multiple=True, metavar="RADIUS", help="8/255, 8px, 5%, 0.031, or several with commas; repeatable. "
              "[default: that of the attacks; 8/255 in linf, 0.5 in l2, 12 in l1, 10 pixels in l0, 5% in area]")  # fmt: skip
@click.option("--steps", type=int, help="Steps of iterative attacks.")
@click.option("--step-size", type=float, help="Length of a step as a fraction of eps.")
@click.option("--restarts", type=int, help="Independent runs per example; the worst counts.")
@click.option("--loss", metavar="NAME", help="What is ascended (advkit list losses).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other setting of the attacks.")
@click.option("--targeted", is_flag=False, flag_value="", metavar="[RULE]", help="Aim at a class: next (where no "
              "rule follows), random, least-likely.")  # fmt: skip
@click.option("--target", metavar="CLASS", help="Aim at this class, by name or number.")
@click.option("--survivors", is_flag=True, help="Run each attack only on what the attacks before it left standing.")
@click.option("--samples", type=int, help="Attack the first so many examples. [default: 200; all of a picture]")
@click.option("--exclude", multiple=True, metavar="CLASS", help="Leave out the examples of a class; repeatable.")
@click.option("--image", type=PathType(), multiple=True, help="Attack this picture instead of --data.")
@click.option("--label", metavar="CLASS", help="True class of --image. [default: what the model says]")
@click.option("--batch-size", type=int, help="Examples per pass; halved where memory runs out. [default: by size]")
@click.option("--precision", default="auto", show_default=True, help="What steers the search: auto, float32, folded, "
              "mixed (bfloat16 first). Verdicts are always the model's own.")  # fmt: skip
@click.option("--eot", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Of a model that draws: tell "
              "attacks the mean gradients and scores over K draws.")  # fmt: skip
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True, metavar="K", help="Of a model that draws: "
              "take the mean of K answers for a verdict, then judge each picture K times more and show the mean with its "
              "interval.")  # fmt: skip
@click.option(
    "--save",
    type=PathType(),
    metavar="DIR",
    help="Write facts and adversarial pictures here, and what was fitted (a patch).",
)
@as_option
@click.option(
    "--figure",
    type=PathType(),
    metavar="FILE",
    help="Draw picture, perturbation and result, each at its strongest.",
)
@click.option("--format", "form", default="table", show_default=True, help="table, markdown, csv, json, latex or html.")
@click.option("--per-class", is_flag=True, help="Also show each class.")
@click.option("--strict", is_flag=True, help="Exit with code 1 where a doubt stands under the table; it is printed, and "
              "everything saved, all the same.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress and no header.")
def command(
    choice: ModelChoice,
    pictures: DataChoice,
    attacks: tuple[str, ...],
    defense: str,
    against: Against | None,
    surrogate: str | None,
    norm: str | None,
    eps: tuple[str, ...],
    steps: int | None,
    step_size: float | None,
    restarts: int | None,
    loss: str | None,
    settings: tuple[str, ...],
    targeted: str | None,
    target: str | None,
    survivors: bool,
    samples: int | None,
    exclude: tuple[str, ...],
    image: tuple[Path, ...],
    label: str | None,
    batch_size: int | None,
    precision: str,
    eot: int,
    repeats: int,
    save: Path | None,
    kept_as: str,
    figure: Path | None,
    form: str,
    per_class: bool,
    strict: bool,
    quiet: bool,
) -> None:
    """Attack a model and print its robustness table: accuracy without attack, under each attack, and in the worst case.

    \b
    advkit attack --model resnet --eps 8/255
    advkit attack --weights adversarial --attack fgsm --attack pgd --eps 4px,8px
    advkit attack --defense jpeg:75 --attack pgd
    advkit attack --model my.py:net --data test.npz --format json > table.json
    advkit attack --image panda.jpg --attack fgsm --eps 0.007 --figure panda.png
    """
    from advkit.engine.checks import check_classes
    from advkit.engine.defend import read_defense
    from advkit.engine.evaluate import evaluate
    from advkit.engine.fitting import save_fitted
    from advkit.engine.precision import checked_precision
    from advkit.engine.reload import check_png
    from advkit.engine.stages import Observer
    from advkit.results.figure import check_suffix
    from advkit.results.files import Saver
    from advkit.results.run_folder import admit_run, run_folder

    # Parse
    kept = kept_form(kept_as, save)
    check_format(form)
    steering = checked_precision(precision)
    aim = _aim(targeted, target)
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size is {batch_size}; give 1 or more, or leave it out to have it chosen.")
    if label is not None and not image:
        raise InputError("--label is the class of --image, and there is none; leave it out, or name a picture.")
    if figure:
        check_suffix(figure)
    if save:
        admit_run(save)
    writable_folder(save)
    writable_folder(figure.parent if figure else None)
    guard = read_defense(defense, Trust.of(defense))
    own = choice.trained_by(guard.trained)
    if against is not None and defense == "none":
        raise InputError(f"--{against} says how a defense is attacked, and there is none; name one with --defense.")
    flags = {"steps": steps, "step_size": step_size, "restarts": restarts, "loss": loss}
    if surrogate is not None and against is not None:
        raise InputError(f"--{against} and --surrogate each say which model attacks are made on; give one of them.")
    attacks = named(attacks, flags, settings)
    chosen = build_attacks(attacks, norm, eps, flags, settings)

    # Build
    if image:
        net, source = picture_and_model(image, label, pictures.size, own)
    else:
        source = pictures.build()
        net = own.build(source)
    bare = choice.build(source) if guard.trained else None
    other = None if surrogate is None else choice.surrogate(surrogate, source)
    source = narrowed(source, exclude)
    whole, source = len(source), source.head(_SAMPLES if samples is None and not image else samples)
    check_target(aim, net, source)
    if net.num_classes is not None:
        check_classes(source, net.num_classes)
    screen = console(quiet)
    if save and kept == "png":
        check_png(source)
    place = click.get_current_context().with_resource(run_folder(save)) if save else None
    saver = Saver(place, lambda indices: source.pictures(indices), kept) if place else None
    gallery = Gallery()
    last: list[Evaluation] = []

    def finished(name: str, part: Finished) -> None:
        gallery.add(part)
        if saver:
            saver.add(name, part.example, part.x_adv)

    def fitted(name: str, thing: Applied) -> None:
        if place:
            save_fitted(thing, place / f"{name.replace('/', '-')}.safetensors")

    # Run
    observer = Observer(
        stage=lambda name: bar(screen, name),
        finished=finished,
        fitted=fitted,
        row=lambda result: last.__setitem__(slice(None), [result]),
    )
    _header(screen, net, source, whole, chosen, aim, choice, defense)
    if other is not None:
        screen.print(f"made on {other.name}, weights {other.weights}, and shown to {net.name} once", markup=False)
    interrupted = False
    try:
        result = evaluate(
            net,
            source,
            chosen,
            batch_size=batch_size,
            seed=choice.seed,
            target=aim,
            survivors=survivors,
            keep="best" if figure or image else "first",
            precision=steering,
            defense=guard,
            bare=bare,
            against=against or "both",
            surrogate=other,
            eot=eot,
            repeats=repeats,
            observer=observer,
        )
    except KeyboardInterrupt:
        if not last:
            raise
        result, interrupted = last[0], True

    # Render: the table first, since a full disk must not cost it
    result, lost = judged_files(saver, net, guard, source, result, batch_size, repeats, screen)
    _print(result, form, per_class, bool(image), screen)
    if isinstance(lost, WriteError):
        raise lost
    if saver:
        photos = (image, source.shape[1], label) if image else None
        search = {
            "target": aim,
            "survivors": survivors,
            "keep": "best" if figure or image else "first",
            "batch_size": batch_size,
            "precision": precision,
            "eot": eot,
            "repeats": repeats,
            "attacks": list(attacks),
            "norm": norm,
            "eps": list(eps),
            "flags": flags,
            "settings": list(settings),
        }
        saver.close(result, recipe_of(choice, pictures, photos, exclude, net, source, defense, search).to_json())
    if figure and not interrupted:
        gallery.draw(figure, net, result, chosen, source)
    if interrupted or lost:
        click.echo("Interrupted: the table shows what was finished.", err=True)
        sys.exit(exit_code())
    if strict and result.doubts:
        sys.exit(1)


def _aim(targeted: str | None, target: str | None) -> str | None:
    """The rule or class to aim at; ``--targeted`` alone is empty, and leaves the word to ``--target``."""
    if targeted and target:
        raise InputError(f"--targeted {targeted} and --target {target} say different things; give one of them.")
    return target or ("next" if targeted == "" else targeted)


def _header(
    screen: Console,
    net: Classifier,
    source: Data,
    whole: int,
    chosen: list[Attack | Ensemble],
    aim: str | None,
    choice: ModelChoice,
    defense: str,
) -> None:
    """What the numbers below are of."""
    radii = dict.fromkeys(attack.threat.label for attack in chosen)
    count = f"{len(source):,} example{'s' if len(source) > 1 else ''}"
    part = f", the first {count} of {whole:,}" if len(source) < whole else f", {count}"
    screen.print(f"model  {net.name}, weights {net.weights}", markup=False)
    if defense != "none":
        screen.print(f"defense {defense}", markup=False)
    screen.print(f"data   {source.name}{part}{source.remark}", markup=False)
    screen.print(f"threat {', '.join(radii)}{f', targeted: {aim}' if aim else ''}", markup=False)
    screen.print(f"device {choice.device_name}, seed {choice.seed}", markup=False)
    for doubt in dict.fromkeys(attack.threat.doubt for attack in chosen):
        if doubt:
            screen.print(f"note   {doubt}", markup=False)


def _print(result: Evaluation, form: str, per_class: bool, one_by_one: bool, screen: Console) -> None:
    from advkit.results.robustness import long_table, per_class_table, robustness_table
    from advkit.results.table import show

    if form == "json":
        found = result.to_json() | ({"per_class": result.per_class_json()} if per_class else {})
        click.echo(json.dumps(found))
    elif form == "csv":
        show([long_table(result, per_class)], form)
    else:
        show([robustness_table(result), *([per_class_table(result)] if per_class else [])], form)
    for doubt in result.doubts if form != "json" else ():
        click.echo(str(doubt), err=form != "table")
    if result.checks and not result.doubts:
        screen.print(f"no doubts ({result.checks} cheap checks; advkit check makes them all)", markup=False)
    for line in result.stories() if one_by_one else ():
        screen.print(line, markup=False)
    screen.print(f"search in {result.precision}; verdicts of the model itself", markup=False)
