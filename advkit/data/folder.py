"""Pictures in a folder: one sub-folder per class, or all side by side with their labels in ``labels.json``."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from advkit.catalog import DATASETS
from advkit.data._files import PictureFiles, interleaved, read_problem
from advkit.data._listing import Listing, is_picture
from advkit.data._names import read_listing, read_names
from advkit.data.base import OtherOrder, numbered
from advkit.errors import DataError, nearest
from advkit.paths import expanded, file_problem, is_folder, shown

__all__ = ["Folder", "class_folders"]

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


@DATASETS.register("folder")
class Folder(PictureFiles):
    """Pictures in a folder: one sub-folder per class, or flat with labels.json (file name to class index).

    Sub-folders are numbered by name: those that are all whole numbers in the order of these (2 before 10, -1 before +1), with
    ``class_order`` ``text`` letter by letter (10 before 2), as torchvision's ImageFolder does; others always so. They are
    read in turns, one picture of each, so that the first n examples are spread over the classes; a flat folder is read in
    the order of ``labels.json``. ``class_names.json`` (a list, or index to name), where there is one, names all classes of
    the model, also those without a picture here; with sub-folders it gives their order. With ``skip_bad`` every file is
    decoded once at the start, and those that cannot be are left out.
    """

    def __init__(
        self,
        path: str | Path,
        size: int | None = None,
        crop: float | None = None,
        skip_bad: bool = False,
        class_order: Literal["number", "text"] = "number",
    ) -> None:
        root = expanded(path)
        if not is_folder(root):
            what = "is a file" if file_problem(root) is None else "does not exist"
            raise DataError(f"the folder {shown(root)} {what}; give a folder that holds pictures.")
        if class_order not in ("number", "text"):
            raise DataError(f"folder: class_order is {class_order!r}; allowed are 'number' and 'text'.")
        source = root / "class_names.json"
        names = read_names(source) if source.is_file() else None
        other: OtherOrder | None = None
        if (root / "labels.json").is_file():
            files, labels = _listed(root)
            classes = names or numbered(root.name, max(labels), len(set(labels)))
        else:
            found, groups = class_folders(root, names, class_order)
            classes = names or found
            files, labels = interleaved(groups)
            other = None if names else _other_order(classes, class_order)
        if max(labels) >= len(classes):
            raise DataError(
                f"{root / 'labels.json'} holds the class {max(labels)}, but class_names.json names "
                f"{len(classes)} classes (0 to {len(classes) - 1}); make them agree."
            )
        if skip_bad:
            files, labels = _readable(root, files, labels)
        super().__init__(Path(os.path.realpath(root)).name, files, labels, classes, size=size, crop=crop)
        self.path, self.other_order = root, other


def class_folders(
    root: Path, names: Sequence[str] | None = None, order: Literal["number", "text"] = "number"
) -> tuple[list[str], list[list[Path]]]:
    """The class folders of ``root``, in the order of ``names`` or else of their own names, and the files of each."""
    if os.path.realpath(root) == Path(os.path.realpath(root)).anchor:
        raise DataError(f"the folder {root} is the whole disk; give a folder that holds pictures.")
    listing = Listing(root)
    entries = listing.entries()
    found = {entry.name: listing.pictures(Path(entry.path)) for entry in entries if _is_class_folder(entry)}
    loose = sum(is_picture(Path(entry.name)) for entry in entries)
    if not any(found.values()) and loose:
        raise DataError(
            f"the folder {root} holds pictures side by side ({loose}) and no labels.json; add one that gives the class "
            "index of each file name, or put the pictures into one folder per class."
        )
    if not any(found.values()):
        raise DataError(
            f"the folder {root} holds no pictures; put jpg, png, webp, bmp, ppm or tiff files into one folder per "
            "class, or side by side with a labels.json."
        )
    classes = list(names) if names else _ordered(root, list(found), order)
    for name in found:
        if name not in classes:
            raise DataError(
                f"the folder {root / name} is none of the classes in {root / 'class_names.json'}."
                f"{nearest(name, classes)} Rename the folder, or add it to the list."
            )
    return classes, [found.get(name, []) for name in classes]


def _is_class_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of the root is one. Raises DataError for a link that leads nowhere: it would move the labels."""
    if is_folder(entry.path):
        return True
    if entry.is_symlink() and not is_picture(Path(entry.name)) and (problem := file_problem(entry.path)):
        raise DataError(f"{entry.path} is a link that cannot be followed: {problem}. Mend or remove it.")
    return False


def _ordered(root: Path, found: list[str], order: Literal["number", "text"]) -> list[str]:
    """Names of class folders, whole numbers among themselves by their value."""
    if order == "text" or not _are_numbers(found):
        return sorted(found)
    ordered = sorted(found, key=int)
    for one, other in pairwise(ordered):
        if int(one) == int(other):
            raise DataError(
                f"the class folders {one} and {other} in {root} are the same number; rename one, or take the order of "
                "the texts (--class-order text, in Python class_order='text')."
            )
    return ordered


def _are_numbers(names: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(name) for name in names)


def _other_order(classes: Sequence[str], order: Literal["number", "text"]) -> OtherOrder | None:
    """The classes in the order that was not taken, where it is another one."""
    if not _are_numbers(classes):
        return None
    other = sorted(classes) if order == "number" else sorted(classes, key=int)
    if other == list(classes):
        return None
    place = {name: number for number, name in enumerate(other)}
    return OtherOrder(order, tuple(place[name] for name in classes))


def _listed(root: Path) -> tuple[list[Path], list[int]]:
    source = root / "labels.json"
    listed = read_listing(source)
    if not isinstance(listed, dict) or not listed:
        raise DataError(f"{source} must be an object of file names and class indices, such as {{'a.jpg': 0}}.")
    for file, label in listed.items():
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise DataError(f"{source}: the label of {file!r} is {label!r}; give a whole number, counting from 0.")
        if problem := file_problem(root / file):
            told = "which is not in" if not os.path.lexists(root / file) else f"and {problem}, in"
            raise DataError(f"{source} names the file {shown(file)!r}, {told} {root}; add it or remove the entry.")
    return [root / file for file in listed], list(listed.values())


def _readable(root: Path, files: list[Path], labels: list[int]) -> tuple[list[Path], list[int]]:
    problems = [read_problem(file) for file in files]
    bad = [f"{file.relative_to(root)} ({why})" for file, why in zip(files, problems, strict=True) if why]
    if len(bad) == len(files):
        raise DataError(f"none of the {len(files)} pictures in {root} can be read; the first: {bad[0]}.")
    if bad:
        warnings.warn(f"{root}: left out {len(bad)} of {len(files)} files: {'; '.join(bad)}.", stacklevel=4)
    kept = [i for i, why in enumerate(problems) if why is None]
    return [files[i] for i in kept], [labels[i] for i in kept]
