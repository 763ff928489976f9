"""advkit certify."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advkit.cli._command import Command, PathType
from advkit.cli._pictures import narrowed
from advkit.cli._shared import (
    DataChoice,
    ModelChoice,
    bar,
    check_format,
    console,
    form_and_quiet,
    model_and_data,
    writable_folder,
)
from advkit.cli._signals import exit_code
from advkit.errors import InputError, ModelError
from advkit.trust import Trust

if TYPE_CHECKING:
    from rich.console import Console

    from advkit.backbones import Classifier
    from advkit.core.defense import Certifier
    from advkit.data import Data
    from advkit.engine.certify import Inside
    from advkit.engine.defend import Defense
    from advkit.results.certificates import Certification

_SAMPLES = 50


@click.command(name="certify", cls=Command)
@model_and_data
@click.option("--by", "by", multiple=True, metavar="NAME[:SETTINGS]", help="What certifies (advkit list defenses), as "
              "smoothing:sigma=0.5; repeatable. [default: smoothing]")  # fmt: skip
@click.option("--sigma", metavar="NUMBERS", help="Standard deviation of the noise, pixels from 0 to 1; several with "
              "commas. [default: 0.25]")  # fmt: skip
@click.option("--n0", type=int, help="Draws that guess the class. [default: 100]")
@click.option("--n", type=int, help="Draws that count it; papers take 100000. [default: 1000]")
@click.option("--alpha", type=float, help="How often a certificate may be wrong, at most. [default: 0.001]")
@click.option("--defense", metavar="NAME", help="What defends the model before it is certified; a denoiser such as dncnn "
              "makes denoised smoothing. [default: gaussian, weights trained on noise, for smoothing where such ship, "
              "else none]")  # fmt: skip
@click.option("--samples", type=int, help=f"Certify the first so many examples. [default: {_SAMPLES}]")
@click.option("--exclude", multiple=True, metavar="CLASS", help="Leave out the examples of a class; repeatable.")
@click.option("--radius", "radii", multiple=True, metavar="RADIUS", help="Ask only whether this radius is certified, and "
              "stop as soon as that is sure: 0.5, 2/255, several with commas; repeatable.")  # fmt: skip
@click.option("--check", "checks", multiple=True, metavar="ATTACK", help="Attack every certified example inside its radius, "
              "as pgd or pgd:steps=10; repeatable. A success is an error.")  # fmt: skip
@click.option("--batch-size", type=int, help="Pictures per pass; halved where memory runs out. [default: by size]")
@click.option("--out", type=PathType(), metavar="DIR", help="Keep what is done here, and go on from there.")
@click.option("--figure", type=PathType(), metavar="FILE", help="Draw certified accuracy over the radius.")
@form_and_quiet
def command(
    choice: ModelChoice,
    pictures: DataChoice,
    by: tuple[str, ...],
    sigma: str | None,
    n0: int | None,
    n: int | None,
    alpha: float | None,
    defense: str | None,
    samples: int | None,
    exclude: tuple[str, ...],
    radii: tuple[str, ...],
    checks: tuple[str, ...],
    batch_size: int | None,
    out: Path | None,
    figure: Path | None,
    form: str,
    quiet: bool,
) -> None:
    """Certify a model: print up to which radius nothing at all changes its predictions, and how often.

    \b
    advkit certify --sigma 0.25 --n 1000
    advkit certify --sigma 0.12,0.25,0.5 --n 10000 --out runs/certified --figure curve.pdf
    advkit certify --radius 0.25,0.5 --n 100000 --samples 500
    advkit certify --defense dncnn --by smoothing --check pgd:steps=10
    """
    from advkit.engine.certify import attack_inside, certify, read_attack
    from advkit.engine.defend import read_defense
    from advkit.results.figures import check_suffix
    from advkit.results.lock import locked

    # Parse
    check_format(form)
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size is {batch_size}; give 1 or more, or leave it out to have it chosen.")
    asked = _radii(radii)
    flags = {"sigma": sigma, "n0": n0, "n": n, "alpha": alpha}
    certifiers = _certifiers(by or ("smoothing",), flags, asked)
    for text in checks:
        read_attack(text)
    if figure:
        check_suffix(figure)
        if len({certifier.norm for certifier in certifiers}) > 1:
            raise InputError(
                "--figure draws curves in one norm, and these certifiers have several; certify them apart."
            )
        writable_folder(figure.parent)
    if defense is not None:
        read_defense(defense, Trust.of(defense))  # what is wrong with it is said before anything is loaded

    # Build
    source = narrowed(pictures.build(), exclude)
    guard, net = _guarded(choice, by, defense, source)
    wanted = _SAMPLES if samples is None else samples
    screen = console(quiet)
    screen.print(f"model  {net.name}, weights {net.weights}", markup=False)
    screen.print(
        f"data   {source.name}, {len(source.head(wanted)):,} of {len(source):,} examples{source.remark}", markup=False
    )
    if guard.text != "none":
        screen.print(f"defense {guard.text}", markup=False)
    screen.print(f"device {choice.device_name}, seed {choice.seed}", markup=False)

    # Run
    if out:
        click.get_current_context().with_resource(locked(out, "certify"))
    found: list[Certification] = []
    inside: list[Inside] = []
    interrupted = False
    try:
        for certifier in certifiers:
            place = len(found)
            with bar(screen, _name(certifier)) as progress:
                certify(
                    net,
                    source,
                    certifier,
                    defense=guard,
                    samples=wanted,
                    batch_size=batch_size,
                    seed=choice.seed,
                    folder=out,
                    progress=progress,
                    part=lambda so_far, place=place: found.__setitem__(slice(place, None), [so_far]),  # type: ignore[misc]
                )
        for certifier, each in zip(certifiers if checks else [], found, strict=False):
            with bar(screen, f"attacks inside {_name(certifier)}") as progress:
                inside.append(
                    attack_inside(
                        net, source, each, certifier, defense=guard, attacks=checks, batch_size=batch_size, progress=progress
                    )
                )  # fmt: skip
    except KeyboardInterrupt:
        if not found:
            raise
        interrupted = True

    # Render
    _print(found, inside, asked, form)
    if figure:
        from advkit.results.figures.certified import draw_certified

        draw_certified(found, figure)
    _judge(inside, checks, screen)
    if interrupted:
        kept = f"; run the same command again to go on (--out {out})" if out else ""
        click.echo(f"Interrupted: the table shows what was finished{kept}.", err=True)
        sys.exit(exit_code())


def _guarded(choice: ModelChoice, by: tuple[str, ...], defense: str | None, source: Data) -> tuple[Defense, Classifier]:
    """The defense and the network with its weights.

    Smoothing asks the network on noise: by default one that was trained on it, where such weights ship and no others are
    named.
    """
    from advkit.engine.defend import read_defense

    if defense is None and choice.weights == "auto" and all(text.startswith("smoothing") for text in by):
        with suppress(ModelError):
            return read_defense("gaussian"), choice.trained_by("gaussian").build(source)
    guard = read_defense(defense or "none", Trust.of(defense or "none"))
    return guard, choice.trained_by(guard.trained).build(source)


def _radii(texts: tuple[str, ...]) -> tuple[float, ...]:
    """Ascending, each once."""
    from advkit.numbers import fraction_of

    try:
        found = {float(fraction_of(part.strip())) for text in texts for part in text.split(",")}
    except (ValueError, ArithmeticError):
        raise InputError(f"--radius is {', '.join(texts)!r}; give numbers such as 0.5 or 2/255, with commas.") from None
    if any(radius <= 0 for radius in found):
        raise InputError(
            f"--radius is {', '.join(texts)!r}; give radii above 0: at 0 nothing is certified, and advkit attack prints the "
            "accuracy without attack."
        )
    return tuple(sorted(found))


def _certifiers(texts: tuple[str, ...], flags: Mapping[str, object], radii: tuple[float, ...]) -> list[Certifier]:
    """Every certifier with every sigma. A flag reaches those that have it, and must reach one."""
    from advkit.catalog import DEFENSES
    from advkit.engine.defend import build_certifier

    given = {key: str(value) for key, value in flags.items() if value is not None}
    entries = {text: DEFENSES[text.partition(":")[0]] for text in texts}
    for text in texts:
        build_certifier(text)
    for key in given:
        if not any(key in entry.settings for entry in entries.values()):
            raise InputError(
                f"--{key} reaches nothing: {', '.join(dict.fromkeys(e.name for e in entries.values()))} is certified without "
                "it. Leave it out, or choose another certifier by --by."
            )
    found = []
    for text, entry in entries.items():
        own = {key: value for key, value in given.items() if key in entry.settings}
        for sigma in own.pop("sigma", "").split(","):
            more = ",".join(
                f"{key}={value}" for key, value in (own | ({"sigma": sigma.strip()} if sigma else {})).items()
            )
            full = text if not more else f"{text},{more}" if text.partition(":")[2] else f"{entry.name}:{more}"
            found.append(_asking(build_certifier(full), radii))
    return list(dict.fromkeys(found))


def _asking(certifier: Certifier, radii: tuple[float, ...]) -> Certifier:
    """The certifier that may stop early, where it can."""
    from dataclasses import fields, replace

    if radii and "radii" in {field.name for field in fields(certifier)}:  # type: ignore[arg-type]
        asking: Certifier = replace(certifier, radii=radii)  # type: ignore[type-var]
        return asking
    return certifier


def _name(certifier: Certifier) -> str:
    from advkit.catalog import DEFENSES

    return DEFENSES.name_of(certifier)


def _print(found: Sequence[Certification], inside: Sequence[Inside], asked: tuple[float, ...], form: str) -> None:
    from advkit.results.certificate_table import certificate_table, long_certificate_table
    from advkit.results.table import show

    shown = [(each, asked or each.usual_radii()) for each in found]
    if form == "json":
        every = [each.to_json(radii) for each, radii in shown]
        for one, attacked in zip(every, inside, strict=False):
            one["check"] = {
                "examples": attacked.examples,
                "points": attacked.points,
                "violations": [vars(violation) for violation in attacked.violations],
            }
        click.echo(json.dumps(every))
    elif form == "csv":
        show([long_certificate_table(shown)], form)
    elif form == "table":
        for number, (each, radii) in enumerate(shown):
            click.echo(("\n" if number else "") + f"certified by {each.settings}" + "\n")
            show([certificate_table(each, radii)], form)
    else:
        show([certificate_table(each, radii) for each, radii in shown], form)


def _judge(inside: Sequence[Inside], checks: tuple[str, ...], screen: Console) -> None:
    """Say what the attacks came to; a certificate that does not hold ends the command with exit code 1."""
    for each in inside:
        if each.violations:
            first = each.violations[0]
            count = len({violation.index for violation in each.violations})
            click.echo(
                f"Error: {count} of {each.examples} certificates do not hold. Example {first.index}, certified as class "
                f"{first.prediction} up to {first.radius:.4g}, is answered as class {first.answer} at a point inside that "
                f"{first.attack} found.",
                err=True,
            )
            sys.exit(1)
        screen.print(
            f"check  {', '.join(checks)} and random points inside {each.examples} certificates: 0 of {each.points} points "
            "change the answer",
            markup=False,
        )
