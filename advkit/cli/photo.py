"""advkit photo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from advkit.cli._command import Command, PathType
from advkit.cli._shared import DataChoice, ModelChoice, check_format, console, model_and_data, writable_folder
from advkit.errors import InputError


@click.command(name="photo", cls=Command)
@click.argument("folder", type=PathType(), metavar="DIR")
@click.option("--image", "images", multiple=True, type=PathType(), metavar="FILE",
              help="A photo of the sign with the sticker, or of the printed page; repeatable.")  # fmt: skip
@click.option("--corners", "corners", multiple=True, metavar="X,Y;X,Y;X,Y;X,Y", help="Of the upright rectangle around the "
              "sign, in pixels: upper left, upper right, lower right, lower left; once for each --image. [default: found "
              "by the printed tags]")  # fmt: skip
@click.option("--class", "label", metavar="NAME", help="What the sign is. [default: as the sticker's design says]")
@click.option("--target", metavar="NAME", help="What it is to be read as; none for any wrong class. [default: as the "
              "sticker's design says]")  # fmt: skip
@click.option("--correct", default="light", show_default=True, metavar="NAME", help="What the colour card takes away: light, "
              "full (the printer's errors too) or none.")  # fmt: skip
@click.option(
    "--upright", is_flag=True, help="Show the model the square around the sign as the photo has it, not rectified."
)
@click.option(
    "--margin", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Around the sign, of its side."
)
@model_and_data
@click.option("--figure", type=PathType(), metavar="FILE", help="Draw the rectified photos (.png, .svg, .pdf).")
@click.option("--format", "form", default="table", show_default=True, help="table, markdown, csv, json, latex or html.")
@click.option("--quiet", is_flag=True, help="No header.")
def command(
    choice: ModelChoice,
    pictures: DataChoice,
    folder: Path,
    images: tuple[Path, ...],
    corners: tuple[str, ...],
    label: str | None,
    target: str | None,
    correct: str,
    upright: bool,
    margin: float,
    figure: Path | None,
    form: str,
    quiet: bool,
) -> None:
    """Score photos of a printed sticker: find the sign, see it straight on, correct the light, and ask a model.

    \b
    advkit photo stickers/stop --image one.jpg --image two.jpg
    advkit photo stickers/stop --image one.jpg --corners "210,80;640,95;630,520;205,505"
    """
    from advkit.cli._physical import drawn_face, fact, read_by, saved_sticker
    from advkit.engine.photo import look, score
    from advkit.engine.rectify import CORRECTIONS
    from advkit.errors import UnknownName
    from advkit.results.figures import check_suffix
    from advkit.results.print_sheet import Sheet
    from advkit.results.table import show

    # Parse
    check_format(form)
    if not images:
        raise InputError("no photo was given; give at least one by --image FILE.")
    if corners and len(corners) != len(images):
        raise InputError(
            f"{len(corners)} --corners for {len(images)} --image; give one for each, in the same order, or none."
        )
    correction = next((known for known in CORRECTIONS if known == correct), None)
    if correction is None:
        raise UnknownName("correction", correct, CORRECTIONS)
    if figure:
        check_suffix(figure)
        writable_folder(figure.parent)
    quads = [_quad(text) for text in corners]
    sticker = saved_sticker(folder)
    sheet = Sheet.load(folder / "print.json")
    label, target = label or fact(sticker, "class"), target or fact(sticker, "target")
    if label is None:
        raise InputError(f"the sticker in {folder} does not say which sign it goes to; say it by --class.")

    # Build
    given = click.get_current_context().get_parameter_source
    if given("model") == ParameterSource.DEFAULT:
        choice = replace(choice, model=fact(sticker, "model") or choice.model)
    # A sticker of another data set is scored by what its model knows of the classes.
    own = given("data") == ParameterSource.DEFAULT and fact(sticker, "data") not in (None, pictures.name)
    source = None if own else pictures.build(1)
    net = choice.build(source)
    names, number, aim, size = read_by(net, source, label, target, pictures.size)
    face = drawn_face(sticker)

    # Run
    shots = look(
        images, sheet, sticker, size, corners=quads, face=face, correction=correction, margin=margin, upright=upright
    )
    screen = console(quiet)
    screen.print(f"model  {net.name}, weights {net.weights}", markup=False)
    found = score(net, shots, number, aim, names, net.name)

    # Render
    if form == "json":
        click.echo(json.dumps(found.to_json()))
    else:
        show([found.table()], form)
    if figure:
        from advkit.engine.photo import frames
        from advkit.results.pictures import contact_sheet

        contact_sheet(figure, frames(found), heading=found.sentence)
        screen.print(f"drew   {figure}", markup=False)


def _quad(text: str) -> list[tuple[float, float]]:
    """Four points from a text."""
    try:
        points = [tuple(float(part) for part in point.split(",")) for point in text.strip().strip(";").split(";")]
        return [(x, y) for x, y in points]
    except ValueError:
        raise InputError(f"--corners is {text!r}; write four points in pixels as x,y;x,y;x,y;x,y.") from None
