"""advkit drive."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from advkit.cli._command import Command, PathType, refuse_idle
from advkit.cli._physical import aimed, fact, saved_sticker
from advkit.cli._shared import DataChoice, ModelChoice, bar, check_format, console, form_and_quiet, model_and_data
from advkit.errors import DataError, InputError, UnknownName

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.backbones import Classifier
    from advkit.data import Data
    from advkit.engine.drive import Lane, Scene
    from advkit.results.drive import DriveTable, Subject
    from advkit.scene.sticker import Sticker

_DRAWS, _DRIVES = 40, 10
_LARGEST_FACE = 512  # px
_BACKGROUNDS = 200


@click.command(name="drive", cls=Command)
@click.argument("folder", type=PathType(), metavar="DIR")
@click.option("--class", "label", metavar="CLASS", help="What the sign is. [default: as the sticker's design says]")
@click.option("--target", metavar="CLASS", help="What it is to be read as; none for any wrong class. "
              "[default: as the sticker's design says]")  # fmt: skip
@click.option(
    "--face",
    metavar="NAME",
    help="The class of signs whose face is drawn. [default: as the sticker's design says, else that of --class]",
)
@click.option("--poses", default="all", show_default=True, metavar="NAME", help="rp2 (its 15 lab poses), distance (1.5 to "
              "76 m), yaw (0 to 60 degrees), all of these, grid (each distance at each yaw), or "
              "METRES@DEGREES with commas.")  # fmt: skip
@click.option("--draws", type=click.IntRange(1), help="Views at each pose, each with its own light, blur, noise and "
              "background; of --drive-by: drives. [default: 40; 10 drives]")  # fmt: skip
@click.option("--drive-by", "by", is_flag=True, help="Drive towards the sign instead, and read it in every frame.")
@click.option("--start", type=float, default=76.0, show_default=True, help="Of the drive, in m along the lane.")
@click.option("--end", type=float, default=3.0, show_default=True, help="Of the drive, in m.")
@click.option("--offset", type=float, default=3.0, show_default=True, help="From the lane to the sign, in m.")
@click.option("--speed", type=float, default=9.0, show_default=True, help="In m/s.")
@click.option("--fps", type=float, default=30.0, show_default=True, help="Frames a second.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Read every n-th frame.")
@click.option("--print-model", "print_model", metavar="NAME", help="snap (the palette's nearest colour), gamut or none. "
              "[default: as the sticker's design says, else snap]")  # fmt: skip
@click.option("--palette", metavar="NAME|FILE.csv", help="Of --print-model snap. [default: as the sticker's design says, "
              "else ink]")  # fmt: skip
@click.option("--focal", type=float, default=1000.0, show_default=True, help="Focal length of the camera, in px.")
@click.option("--crop", type=click.Choice(["square", "tight"]), default="square", show_default=True,
              help="The box around the sign; a tight one is stretched to a square, which undoes foreshortening.")  # fmt: skip
@click.option("--figure", type=PathType(), metavar="FILE", help="Draw success over distance and angle (.png, "
              ".svg, .pdf).")  # fmt: skip
@click.option("--gif", type=PathType(), metavar="FILE", help="Of --drive-by: animate the first drive, with "
              "what is read in each frame.")  # fmt: skip
@model_and_data
@form_and_quiet
def command(
    choice: ModelChoice,
    pictures: DataChoice,
    folder: Path,
    label: str | None,
    target: str | None,
    face: str | None,
    poses: str,
    draws: int | None,
    by: bool,
    start: float,
    end: float,
    offset: float,
    speed: float,
    fps: float,
    every: int,
    print_model: str | None,
    palette: str | None,
    focal: float,
    crop: str,
    figure: Path | None,
    gif: Path | None,
    form: str,
    quiet: bool,
) -> None:
    """Tell how often a sign with a sticker is misread: at which distance and angle, digital and printed, beside controls.

    Success is counted where the sign is read right without the sticker (Eykholt et al. 2018, eq. 4).

    \b
    advkit drive stickers/stop
    advkit drive stickers/stop --poses rp2 --print-model gamut
    advkit drive stickers/stop --poses grid --figure map.png
    advkit drive stickers/stop --drive-by --every 10 --gif drive.gif
    """
    from advkit.engine.checks import check_classes
    from advkit.engine.drive import POSES, Lane, approach, read_poses
    from advkit.results.drive import DriveBy, DriveTable
    from advkit.results.table import show

    # Parse
    check_format(form)
    _check_pictures(figure, gif, by)
    chosen = POSES[poses] if poses in POSES else _poses(poses, tuple(POSES))
    ctx = click.get_current_context()
    if by:
        refuse_idle(ctx, "with --drive-by, which passes its own", "poses")
    else:
        refuse_idle(ctx, "without --drive-by", "start", "end", "offset", "speed", "fps", "every")
    lane = Lane(start, end, offset, speed, fps, every)
    sticker = saved_sticker(folder)

    # Build
    if click.get_current_context().get_parameter_source("model") == ParameterSource.DEFAULT:
        choice = replace(choice, model=fact(sticker, "model") or choice.model)
    source = pictures.build(1)
    subject = _subject(source, sticker, folder, label, target)
    face = face or (None if label else fact(sticker, "face")) or subject.name
    scene = _scene(source, sticker, face, focal, crop, draws or (_DRIVES if by else _DRAWS), choice.seed,
                   print_model, palette)  # fmt: skip
    net = choice.build(source)
    if net.num_classes is not None:
        check_classes(source, net.num_classes)
    subject = replace(subject, facts=_facts(net, scene, folder, face, lane if by else None))
    screen = console(quiet)
    screen.print(f"model  {net.name}, weights {net.weights}", markup=False)
    for name in ("sticker_text", "print_text", "views_text"):
        screen.print(f"{name.partition('_')[0]:<6} {subject.facts[name]}", markup=False)

    # Run
    watched = "digital" if scene.print_model == "none" else "printed"
    frames: list[Tensor] = []

    def watch(look: str, picture: Tensor) -> None:
        if gif and look == watched:
            frames.append(picture)

    with bar(screen, "frames" if by else "poses") as progress:
        read = (
            approach(net, scene, lane, progress=progress, watch=watch)
            if by
            else read_poses(net, scene, chosen, progress=progress)
        )

    # Render
    found = DriveBy(subject, read) if by else DriveTable(subject, read)
    if read.right(subject)[0] == 0:
        screen.print(
            f"note   {net.name} never reads {subject.name} right without the sticker, so no success can be stated",
            markup=False,
        )
    if form == "json":
        click.echo(json.dumps(found.to_json()))
    elif form == "csv":
        show([found.long_table()], form)
    else:
        show([found.table(), *([found.bands()] if isinstance(found, DriveBy) else [])], form)
    if gif:
        from advkit.engine.contact import drive_frames
        from advkit.results.pictures import approach as animate

        seconds = lane.every / lane.rate
        animate(gif, drive_frames(frames, read, subject, watched, seconds), fps=1 / seconds)
        screen.print(f"drew   {gif}", markup=False)
    if figure and isinstance(found, DriveTable):
        _draw(figure, found, watched)
        screen.print(f"drew   {figure}", markup=False)


def _check_pictures(figure: Path | None, gif: Path | None, by: bool) -> None:
    from advkit.cli._shared import writable_folder
    from advkit.results.figures import check_suffix
    from advkit.results.pictures import check_gif

    if figure and by:
        raise InputError(
            "--figure draws success over poses, and --drive-by has none; give --gif, or leave out --drive-by."
        )
    if gif and not by:
        raise InputError("--gif animates a drive towards the sign; give --drive-by too.")
    for path, check in ((figure, check_suffix), (gif, check_gif)):
        if path:
            check(path)
            writable_folder(path.parent)


def _draw(path: Path, found: DriveTable, look: str) -> None:
    """The heat map of what counts: the target where there is one."""
    from advkit.results.pictures import heat_map, spots

    subject = found.subject
    kind = "untargeted" if subject.target is None else "targeted"
    aim = "misread" if subject.target is None else f"read as {subject.aim}"
    facts = "; ".join(str(subject.facts[name]) for name in ("model_text", "sticker_text", "print_text", "views_text"))
    said = f"{facts}. Of the views that are read right without the sticker; - where none is."
    heat_map(path, spots(found.to_json()["rows"], look, kind), title=f"{subject.name} {aim}, {look}", small_print=said)


def _poses(text: str, names: tuple[str, ...]) -> tuple[tuple[float, float], ...]:
    """Poses written as 12@0,12@30."""
    if "@" not in text:
        raise UnknownName("set of poses", text, (*names, "METRES@DEGREES"))
    found = []
    for part in text.split(","):
        distance, _, yaw = part.partition("@")
        try:
            pose = float(distance), float(yaw or 0)
        except ValueError:
            raise InputError(f"--poses is {text!r}; write metres and degrees as 12.2@0,12.2@30.") from None
        if not 1.0 <= pose[0] <= 1000 or not -80 <= pose[1] <= 80:
            raise InputError(f"--poses holds {part!r}; give 1 to 1000 m and -80 to 80 degrees.")
        found.append(pose)
    return tuple(found)


def _subject(source: Data, sticker: Sticker, folder: Path, label: str | None, target: str | None) -> Subject:
    """The classes by number, from the options or from the sticker's design."""
    from advkit.results.drive import Subject

    label = label or fact(sticker, "class")
    if label is None:
        raise InputError(f"the sticker in {folder} does not say which sign it goes to; say it by --class.")
    classes = tuple(source.classes)
    return Subject(classes, *aimed(label, target or fact(sticker, "target"), classes, len(classes)))


def _scene(
    source: Data,
    sticker: Sticker,
    face: str,
    focal: float,
    crop: Any,
    draws: int,
    seed: int,
    print_model: str | None,
    palette: str | None,
) -> Scene:
    """The drawn sign and its surroundings, at the size of the model's pictures."""
    import torch

    from advkit.data.signs import Signs
    from advkit.engine.drive import Scene
    from advkit.scene import Camera
    from advkit.scene.printing import PRINT_MODELS, Palette

    channels, height, width = source.shape
    if channels != 3 or height != width:
        raise DataError(
            f"{source.name} has pictures of {channels} x {height} x {width}; a sign is shown in square ones of 3 colours. "
            "Give --size, or other data."
        )
    # A sticker designed without a printer in mind is printed all the same.
    designed = fact(sticker, "print_model")
    printer = print_model or ("snap" if designed in (None, "none") else designed)
    if printer not in PRINT_MODELS:
        raise UnknownName("print model", printer, PRINT_MODELS)
    if printer != "snap":
        refuse_idle(click.get_current_context(), f"where the print model is {printer}", "palette")
    signs = Signs("test", seed=seed)
    if face not in signs.classes:
        raise InputError(f"no face of signs is named {face!r}; name the one to be drawn by --face, one of: "
                         f"{', '.join(signs.classes)}.")  # fmt: skip
    raster = min(max(sticker.rgba.shape[-1], 2 * height), max(_LARGEST_FACE, height))
    number = signs.classes.index(face)
    return Scene(
        signs.face(number, raster),
        sticker,
        torch.stack([signs.background(index, height) for index in range(min(_BACKGROUNDS, 5 * draws))]),
        Camera(focal=focal, width=sticker.sign_mm / 1000, filled=signs.filled(number), crop=crop, size=height),
        print_model=printer,  # type: ignore[arg-type]
        palette=Palette.of(palette or fact(sticker, "palette") or "ink"),
        draws=draws,
        seed=seed,
    )


def _facts(net: Classifier, scene: Scene, folder: Path, face: str, lane: Lane | None) -> dict[str, Any]:
    """What the numbers hold for, in words and by name."""
    from dataclasses import asdict

    sticker, camera = scene.sticker, scene.camera
    area = sticker.area(scene.face)
    printer = {
        "snap": f"the nearest colour of palette {scene.palette.name}",
        "gamut": "a printer's range, colour errors",
    }
    camera_text = f"{camera.focal:g} px focal length, {camera.crop} crop, seed {scene.seed}"
    return {
        "model": net.name,
        "weights": net.weights,
        "face": face,
        "sticker": str(folder),
        "area": area,
        "sign_mm": sticker.sign_mm,
        "print_model": scene.print_model,
        "palette": scene.palette.name,
        "draws": scene.draws,
        "seed": scene.seed,
        "camera": asdict(camera),
        "views": asdict(scene.views),
        **({} if lane is None else {"lane": asdict(lane)}),
        "model_text": f"{net.name}, weights {net.weights}",
        "sticker_text": f"{folder.name or folder}, {100 * area:.1f} % of the {face} sign of {sticker.sign_mm:g} mm",
        "print_text": f"{scene.print_model} ({printer.get(scene.print_model, 'as designed')})",
        "views_text": f"{_road(lane) if lane else f'{scene.draws} at each pose'}, {camera_text}",
    }


def _road(lane: Lane) -> str:
    """The drive in words."""
    every = f"every {lane.every}th of " if lane.every > 1 else ""
    return f"a lane {lane.offset:g} m beside the sign, {lane.speed:g} m/s, {every}{lane.rate:g} frames a second"
