"""advkit print."""

from __future__ import annotations

from pathlib import Path

import click

from advkit.cli._command import Command, PathType
from advkit.cli._shared import console
from advkit.errors import InputError


@click.command(name="print", cls=Command)
@click.argument("folder", type=PathType(), metavar="DIR")
@click.option("--out", type=PathType(), metavar="FILE", help="[default: DIR/print.pdf]")
@click.option("--paper", default="a4", show_default=True, metavar="NAME", help="a4 or letter.")
@click.option(
    "--width",
    type=float,
    metavar="MM",
    help="Of the real sign, as --sign-mm of its design. [default: that of the design]",
)
@click.option("--quiet", is_flag=True, help="Say nothing.")
def command(folder: Path, out: Path | None, paper: str, width: float | None, quiet: bool) -> None:
    """Print the sticker of a folder as a PDF at its true size, with all that is needed to place and photograph it.

    \b
    advkit print stickers/stop
    advkit print stickers/stop --paper letter --width 600

    The pages of the sticker come first, then a sketch of where it goes, then tags for advkit photo. DIR/print.json keeps
    what stands where.
    """
    from advkit.atomic import put_whole
    from advkit.cli._physical import drawn_face, palette_of, saved_sticker, shown_colours, title_of
    from advkit.results.print_pdf import write_pdf
    from advkit.results.print_sheet import Box, lay_out
    from advkit.scene.sticker import Sticker
    from advkit.seal import sealed_json

    # Parse
    sticker = saved_sticker(folder)
    path = folder / "print.pdf" if out is None else out
    if path.suffix.lower() != ".pdf" or path.is_dir():
        raise InputError(f"--out is {path}; give the name of a .pdf file.")
    face = drawn_face(sticker)
    if sticker.mode == "add" and face is None:
        raise InputError(
            "the sticker's colours are to be added to those of a sign that advkit does not draw, so they cannot be "
            "printed; design one with colours of its own."
        )

    # Build
    rgba = sticker.rgba
    if face is not None and sticker.mode == "add":
        side = rgba.shape[-1]
        rgba = sticker.on(Sticker(face).sized(side, side)).clone()
        rgba[3] = sticker.rgba[3]
    alpha = rgba[3].double().numpy()
    cover = None if face is None else face[3].double().numpy()
    scale = 1.0 if width is None else width / sticker.sign_mm
    sheet = lay_out(alpha, scale * sticker.square_mm, [*shown_colours(rgba), *palette_of(sticker)], paper, cover)

    # Run
    whole_face = None if face is None else face.double().numpy()
    write_pdf(path, sheet, rgba.double().numpy(), title=title_of(sticker), face=whole_face)
    put_whole(folder / "print.json", sealed_json(sheet.to_json(), indent=None))

    # Render
    screen = console(quiet)
    box = Box(*(scale * part for part in sticker.box_mm))
    size = f"{box.width:.1f} x {box.height:.1f} mm"
    pages = f"{len(sheet.pages)} page{'s' if len(sheet.pages) > 1 else ''} of {sheet.paper}"
    screen.print(f"sticker {size}, for a sign {scale * sticker.sign_mm:.1f} mm wide: {pages}", markup=False)
    screen.print(f"wrote   {path}: print at 100 %, and measure the scale bar before you cut", markup=False)
