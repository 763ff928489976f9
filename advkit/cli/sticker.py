"""advkit sticker."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from advkit.cli._command import Command, PathType, refuse_idle
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
from advkit.errors import InputError, UnknownName

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.backbones import Classifier
    from advkit.core.rng import Rng
    from advkit.engine.design import Recipe, Stage
    from advkit.results.sticker import Score
    from advkit.scene.sticker import Sticker

_SHOWN = 6  # views in the figure
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm"}


@click.command(name="sticker", cls=Command)
@click.option("--class", "label", default="stop", show_default=True, metavar="CLASS", help="What the sign is.")
@click.option("--target", metavar="CLASS", help="What it is to be read as. [default: anything else]")
@click.option("--mask", default="bars", show_default=True, metavar="SHAPE|FILE|X,Y;X,Y;...", help="Where it may stick: bars, "
              "poster (the whole sign), auto (where a sparse change helps most), a picture of the sign's face, or a polygon in "
              "mm or shares of the sign's width.")  # fmt: skip
@click.option("--area", metavar="SHARE", help="Of the sign, for --mask auto: 0.05 or 5%. [default: 5%]")
@click.option("--pieces", type=click.IntRange(1, 8), default=3, show_default=True, help="Rectangles of --mask auto.")
@click.option("--colours", metavar="NAME", help="palette, free or black-white. [default: palette]")
@click.option("--palette", metavar="NAME|FILE", help="ink, rp2, tape, black-white, or a CSV file of red,green,blue in [0, 1]. "
              "[default: ink]")  # fmt: skip
@click.option("--print-model", metavar="NAME", help="none, snap (to the palette) or gamut; it is in the loop too. "
              "[default: snap]")  # fmt: skip
@click.option("--preset", metavar="NAME", help="rp2-paper, or rp2-code: what the authors' code did.")
@click.option("--steps", type=int, help="Steps of Adam. [default: 400]")
@click.option("--views", type=int, help="Ways to look at each step. [default: 16]")
@click.option("--lr", type=float, help="Learning rate of Adam. [default: 0.1]")
@click.option("--lam", type=float, help="Weight of the norm of the change. [default: 0.02]")
@click.option("--norm", "length", metavar="NAME", help="l2 or l1. [default: l2]")
@click.option("--nps-weight", type=float, help="Of the non-printability score. [default: 5 for free colours, else 0]")
@click.option("--nps-form", metavar="NAME", help="min or product. [default: min]")
@click.option("--tv-weight", type=float, help="Of the total variation. [default: 0.1 for free colours, else 0]")
@click.option("--cell-mm", type=float, help="Least width of anything on the sticker. [default: 30; of photos, a pixel]")
@click.option("--sign-mm", type=float, default=750.0, show_default=True, help="Width of the sign as traffic rules state it: "
              "across the flats of an octagon or a diamond, the diameter of a disc, the side of a triangle.")  # fmt: skip
@click.option("--face", metavar="NAME", help="The class of signs whose face is drawn. [default: that of --class]")
@click.option("--photos", type=PathType(), metavar="DIR", help="Stick it on these photos of the sign instead; "
              "a mask is then a picture in their frame.")  # fmt: skip
@click.option("--held-out", type=int, help="Photos that only score it. [default: a third]")
@click.option(
    "--test-views",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Fresh views that score it, and as many in all at RP2's 15 poses.",
)
@click.option("--out", type=PathType(), metavar="DIR", help="Write sticker.png, .safetensors and .json here.")
@click.option("--figure", type=PathType(), metavar="FILE", help="Draw the sticker, and what is read in some of "
              "the views that score it (.png, .svg, .pdf).")  # fmt: skip
@model_and_data
@form_and_quiet
def command(
    choice: ModelChoice,
    pictures: DataChoice,
    label: str,
    target: str | None,
    mask: str,
    area: str | None,
    pieces: int,
    preset: str | None,
    sign_mm: float,
    face: str | None,
    photos: Path | None,
    held_out: int | None,
    test_views: int,
    out: Path | None,
    figure: Path | None,
    form: str,
    quiet: bool,
    **given: Any,
) -> None:
    """Design one sticker that makes a sign be misread from everywhere (RP2), and tell how often it does, also printed.

    \b
    advkit sticker --class stop --target yield --out stickers/stop
    advkit sticker --class stop --mask auto --area 10% --colours black-white
    advkit sticker --preset rp2-paper --target "speed limit 50"
    advkit sticker --model lisa-cnn --weights lisa.safetensors --photos photos --mask mask.png --class 14 --target 12
    """
    from advkit.cli._physical import read_by
    from advkit.engine.design import optimise
    from advkit.results.figures import check_suffix
    from advkit.results.sticker import score_table
    from advkit.results.table import show
    from advkit.scene.sticker import Sticker

    # Parse
    check_format(form)
    budget = _area(area, mask)
    ctx = click.get_current_context()
    if mask != "auto":
        refuse_idle(ctx, "without --mask auto", "pieces")
    if photos:
        refuse_idle(ctx, "with --photos, where no sign is drawn", "face")
    else:
        refuse_idle(ctx, "without --photos", "held_out")
    recipe = _recipe(preset, choice.seed, photos is not None, given)
    if not sign_mm > 0:
        raise InputError(f"--sign-mm is {sign_mm:g}; give the width of the sign in mm, above 0.")
    if out:
        from advkit.results.run_folder import refuse_others

        refuse_others(out, "sticker.json")
    writable_folder(out)
    if figure:
        check_suffix(figure)
        writable_folder(figure.parent)

    # Build
    source = None if photos and _is_default("data") else pictures.build(1)
    net = choice.build(source)
    names, number, aim, size = read_by(net, source, label, target, pictures.size)
    name, aimed = (str(k) if k is None or not names else names[k] for k in (number, aim))
    screen = console(quiet)
    fitted, tests = (
        _on_photos(photos, size, recipe, preset, held_out, choice.seed, test_views)
        if photos
        else _on_sign(face or name, size, sign_mm, choice.seed, test_views)
    )
    screen.print(f"model  {net.name}, weights {net.weights}", markup=False)
    screen.print(f"sign   {name}, to be read as {'anything else' if aim is None else aimed}", markup=False)

    # Run
    marked = _mask(mask, net, fitted, number, aim, recipe, budget, pieces, sign_mm, screen)
    with bar(screen, "sticker") as progress:
        found = optimise(net, fitted, marked, number, aim, recipe, sign_mm=sign_mm, progress=progress)
    sticker = Sticker(_rgba(found.colours, marked), sign_mm, mode=recipe.mode, filled=fitted.filled)
    # Who ends a search does not wait for hundreds of views to be scored, and for the figure of them.
    scores = [] if found.interrupted else _scores(net, sticker, recipe, tests, number, aim)
    share = float((marked * fitted.cover).sum() / fitted.cover.sum())
    facts = {
        "model": choice.model, "weights": net.weights, "class": name, "target": None if aim is None else aimed,
        "data": source.name if source is not None else str(photos), "face": None if photos else face or name, "mask": mask,
        "area": share, "preset": preset, "palette": recipe.palette.name, "print_model": recipe.print_model,
        "settings": _settings(recipe), "seed": choice.seed, "steps_done": found.steps,
        "success": [row.to_json() for row in scores],
    }  # fmt: skip
    sticker = replace(sticker, facts=facts)
    if out:
        sticker.save(out)

    # Render
    if form == "json":
        click.echo(json.dumps(facts))
    elif scores:
        show(
            [score_table(scores, names, recipe.print_model, recipe.palette.name)],
            form,
        )
    screen.print(f"area   {100 * share:.1f} % of the sign, {found.steps} steps", markup=False)
    if figure and not found.interrupted:
        _draw(figure, net, sticker, recipe, tests, number, aim, names)
        screen.print(f"drew   {figure}", markup=False)
    if out:
        screen.print(f"files  {out}/sticker.png, sticker.safetensors, sticker.json", markup=False)
    if found.interrupted:
        kept = f"; score it by: advkit drive {out}" if out else ""
        click.echo(f"Interrupted after {found.steps} steps: the best sticker found so far{kept}.", err=True)
        sys.exit(exit_code())


def _is_default(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) == ParameterSource.DEFAULT


def _area(text: str | None, mask: str) -> float:
    """The budget of an automatic mask."""
    if text is None:
        return 0.05
    if mask != "auto":
        raise InputError(
            f"--area is the budget of --mask auto, and the mask is {mask}; leave it out, or give --mask auto."
        )
    try:
        share = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        raise InputError(f"--area is {text!r}; write a share of the sign as 0.05 or 5%.") from None
    if not 0 < share <= 1:
        raise InputError(f"--area is {text}; give a share of the sign above 0 and up to 100%.")
    return share


def _recipe(preset: str | None, seed: int, on_photos: bool, given: dict[str, Any]) -> Recipe:
    """A preset or the defaults, with what was set."""
    from advkit.engine.design import PRESETS, Recipe
    from advkit.scene.printing import PRINT_MODELS, Palette

    if preset is not None and preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    settings = {("norm" if key == "length" else key): value for key, value in given.items() if value is not None}
    if (printer := settings.get("print_model", "none")) not in PRINT_MODELS:
        raise UnknownName("print model", printer, PRINT_MODELS)
    if "palette" in settings:
        settings["palette"] = Palette.of(settings["palette"])
    if on_photos:
        settings.setdefault("cell_mm", 0.0)
    return replace(PRESETS[preset] if preset else Recipe(), seed=seed, **settings)


def _on_sign(
    face: str, size: int, sign_mm: float, seed: int, test_views: int
) -> tuple[Stage, list[tuple[str, Stage, Any]]]:
    """The drawn sign, and the fresh views that score a sticker: of the same distribution, and RP2's 15 poses."""
    from advkit.engine.design import rendered
    from advkit.scene import RP2_POSES, View

    fitted = rendered(face, size, sign_mm, seed=seed)
    test = rendered(face, size, sign_mm, seed=seed, split="test")
    streams = _test_streams(seed)
    lights = max(1, test_views // len(RP2_POSES))
    lab = View.cat([test.views.at(*pose).draw(streams.fold(k), lights) for k, pose in enumerate(RP2_POSES)])
    return fitted, [
        ("fresh views", test, test.draw(streams, test_views)),
        (f"RP2's 15 poses, {lights} lights each", test, test.looking(lab)),
    ]


def _on_photos(
    folder: Path, size: int, recipe: Recipe, preset: str | None, held_out: int | None, seed: int, test_views: int
) -> tuple[Stage, list[tuple[str, Stage, Any]]]:
    """Photos to fit and photos to score, as they are and under fresh views."""
    import torch

    from advkit.core.rng import Rng
    from advkit.data.picture import Picture
    from advkit.engine.design import OnPhotos
    from advkit.scene import PICTURE_VIEWS

    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not files:
        raise InputError(f"there are no pictures in {folder}; give a folder of photos of the sign.")
    spare = len(files) // 3 if held_out is None else held_out
    if not 0 <= spare < len(files):
        raise InputError(
            f"--held-out is {spare} of {len(files)} photos; at least one must be left to fit the sticker to."
        )
    taken = Picture([str(path) for path in files], size=size).pictures(range(len(files)))
    order = Rng.of(seed, torch.arange(len(files))).fold("held out").uniform().argsort()
    parts = {"fitted": taken[order[spare:]], "held-out": taken[order[:spare]]}
    tests: list[tuple[str, Stage, Any]] = []
    for name, part in parts.items():
        if len(part):
            each = max(1, test_views // len(part))
            stage = OnPhotos(part, PICTURE_VIEWS)
            tests.append((f"{len(part)} {name} photos", stage, stage.whole()))
            tests.append((f"{name}, {each} fresh views each", stage, stage.each(_test_streams(seed), each)))
    # the authors' code has no synthetic views: the photos in one batch are its expectation
    return OnPhotos(parts["fitted"], None if preset == "rp2-code" else PICTURE_VIEWS), tests


def _test_streams(seed: int) -> Rng:
    import torch

    from advkit.core.rng import Rng

    return Rng.of(seed, torch.ones(1, dtype=torch.long)).fold("test")


def _mask(
    text: str, net: Classifier, stage: Stage, label: int, target: int | None, recipe: Recipe, area: float, pieces: int,
    sign_mm: float, screen: Any,
) -> Tensor:  # fmt: skip
    from advkit.engine.design import auto_mask, mask_of

    if text != "auto":
        return mask_of(text, stage.cover, sign_mm, stage.filled)
    with bar(screen, "mask") as progress:
        return auto_mask(net, stage, label, target, recipe, area, pieces=pieces, progress=progress)


def _draw(
    path: Path, net: Classifier, sticker: Sticker, recipe: Recipe, tests: list[tuple[str, Stage, Any]], label: int,
    target: int | None, names: tuple[str, ...],
) -> None:  # fmt: skip
    """The contact sheet: of photos as they are, else of the last views."""
    from advkit.cli._physical import title_of
    from advkit.engine.contact import contact_frames, some
    from advkit.results.pictures import contact_sheet

    title, stage, seen = next((test for test in reversed(tests) if test[2].view is None), tests[-1])
    frames = contact_frames(net, stage, sticker, some(seen, _SHOWN), label, target, names,
                            print_model=recipe.print_model, palette=recipe.palette)  # fmt: skip
    share = 100 * sticker.facts["area"]
    heading = f"{title_of(sticker)}: {share:.1f} % of a sign of {sticker.sign_mm:g} mm, read by {net.name}; of {title}:"
    contact_sheet(path, frames, heading=heading, columns=_SHOWN)


def _rgba(colours: Tensor, mask: Tensor) -> Tensor:
    import torch

    return torch.cat([colours * mask, mask[None]])


def _scores(
    net: Classifier,
    sticker: Sticker,
    recipe: Recipe,
    tests: list[tuple[str, Stage, Any]],
    label: int,
    target: int | None,
) -> list[Score]:
    from advkit.engine.design import score

    return [
        score(
            net,
            stage,
            sticker,
            seen,
            label,
            target,
            title=title,
            print_model=recipe.print_model,
            palette=recipe.palette,
        )
        for title, stage, seen in tests
    ]


def _settings(recipe: Recipe) -> dict[str, Any]:
    from dataclasses import fields

    plain = {field.name: getattr(recipe, field.name) for field in fields(recipe) if field.name != "palette"}
    nps_weight, tv_weight = recipe.weights
    return plain | {"nps_weight": nps_weight, "tv_weight": tv_weight}
