"""What ``advkit attack --save`` writes besides the facts: the files that are judged again, and how all of it was run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from advkit.cli._pictures import for_photos
from advkit.cli._shared import DataChoice, ModelChoice, bar
from advkit.errors import InputError, WriteError

if TYPE_CHECKING:
    from rich.console import Console

    from advkit.backbones import Classifier
    from advkit.data import Data
    from advkit.engine.defend import Defense
    from advkit.engine.recipe import Recipe
    from advkit.results.files import Form, Saver
    from advkit.results.outcome import Evaluation

__all__ = ["as_option", "judged_files", "kept_form", "recipe_of"]

F = TypeVar("F", bound=Callable[..., Any])


def as_option(command: F) -> F:
    """Add --as."""
    return click.option(
        "--as", "kept_as", default="safetensors", show_default=True, metavar="FORM", help="How --save keeps adversarial "
        "pictures: safetensors (exactly), or png: also in 8 bits, rounded inside the ball, read again and judged anew."
    )(command)  # fmt: skip


def kept_form(name: str, folder: Path | None) -> Form:
    """The form of --as, which is one of --save."""
    from advkit.results.files import checked_form

    form = checked_form(name)
    if form == "png" and folder is None:
        raise InputError("--as png says how --save keeps pictures, and there is none; say where, with --save DIR.")
    return form


def judged_files(
    saver: Saver | None,
    net: Classifier,
    guard: Defense,
    data: Data,
    result: Evaluation,
    batch_size: int | None,
    repeats: int,
    screen: Console,
) -> tuple[Evaluation, WriteError | KeyboardInterrupt | None]:
    """The evaluation with what the model says of the files, where there are to be files; and why there are none.

    What was attacked must not be lost by a full disk, nor by Ctrl-C: whoever calls has a table to print first.
    """
    from advkit.core.defense import RandomWrapper
    from advkit.engine.defend import defend
    from advkit.engine.reload import reloaded

    if saver is None or saver.form != "png":
        return result, None
    declares = any(isinstance(wrapper, RandomWrapper) for wrapper in guard.wrappers)
    try:
        with bar(screen, "files") as progress:
            found, off = reloaded(
                saver,
                defend(net, guard.wrappers),
                data,
                result,
                batch_size=batch_size,
                verdicts=1 if declares else repeats,
                progress=progress,
            )
    except (WriteError, KeyboardInterrupt) as error:
        return result, error
    if off:
        click.echo(
            f"Note: {off:,} of {len(data):,} clean pictures are not in 8 bits; the files hold the same change of the nearest "
            "that are, and the radius is measured from those.",
            err=True,
        )
    return found, None


def recipe_of(
    choice: ModelChoice,
    pictures: DataChoice,
    photos: tuple[tuple[Path, ...], int, str | None] | None,
    exclude: tuple[str, ...],
    net: Classifier,
    data: Data,
    defense: str,
    search: Mapping[str, Any],
) -> Recipe:
    """How to run the same again."""
    from advkit.engine.recipe import Photos, Recipe, lasting, lasting_model, picture_hashes

    what: Any
    if photos is not None:
        paths, size, label = photos
        known = int(data.labels[0]) if label is not None else None
        what = Photos(tuple(lasting(str(path)) for path in paths), size, known)
        choice = for_photos(choice)
    else:
        spec = pictures.spec(exclude)
        what = type(spec)(lasting(spec.name), spec.settings, spec.exclude)
    words: object = click.get_current_context().find_root().obj
    return Recipe(
        model=lasting_model(choice.spec()),
        data=what,
        samples=len(data),
        defense=defense,
        model_hash=net.fingerprint(),
        hashes=picture_hashes(data),
        search=search,
        command=tuple(words) if isinstance(words, list) else (),
    )
