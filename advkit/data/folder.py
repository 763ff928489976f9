"""Pictures in a folder: one sub-folder per class, or all side by side with their labels in ``labels.json``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from advkit.catalog import DATASETS
from advkit.data._files import PictureFiles, interleaved, is_picture, list_folder, read_problem
from advkit.data._names import read_listing, read_names
from advkit.errors import DataError, nearest

__all__ = ["Folder", "class_folders"]


@DATASETS.register("folder")
class Folder(PictureFiles):
    """Pictures in a folder: one sub-folder per class, or flat with labels.json (file name to class index).

    Sub-folders are numbered by name. They are read in turns, one picture of each, so that the first n examples are
    spread over the classes; a flat folder is read in the order of ``labels.json``. ``class_names.json`` (a list, or
    index to name), where there is one, names all classes of the model, also those without a picture here; with
    sub-folders it gives their order. With ``skip_bad`` every file is decoded once at the start, and those that cannot
    be are left out.
    """

    def __init__(
        self, path: str | Path, size: int | None = None, crop: float | None = None, skip_bad: bool = False
    ) -> None:
        root = Path(path).expanduser()
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            raise DataError(f"the folder {root} {what}; give a folder that holds pictures.")
        source = root / "class_names.json"
        names = read_names(source) if source.is_file() else None
        if (root / "labels.json").is_file():
            files, labels = _listed(root)
            classes = names or [str(i) for i in range(max(labels) + 1)]
        else:
            classes, groups = class_folders(root, names)
            files, labels = interleaved(groups)
        if max(labels) >= len(classes):
            raise DataError(
                f"{root / 'labels.json'} holds the class {max(labels)}, but class_names.json names "
                f"{len(classes)} classes (0 to {len(classes) - 1}); make them agree."
            )
        if skip_bad:
            files, labels = _readable(root, files, labels)
        super().__init__(root.resolve().name, files, labels, classes, size=size, crop=crop)
        self.path = root


def class_folders(root: Path, names: Sequence[str] | None = None) -> tuple[list[str], list[list[Path]]]:
    """The class folders of ``root``, in the order of ``names`` or else of their own names, and the files of each."""
    found = {path.name: list_folder(path) for path in sorted(root.iterdir()) if _is_class_folder(path)}
    loose = sum(is_picture(path) for path in root.iterdir())
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
    classes = list(names) if names else list(found)
    for name in found:
        if name not in classes:
            raise DataError(
                f"the folder {root / name} is none of the classes in {root / 'class_names.json'}."
                f"{nearest(name, classes)} Rename the folder, or add it to the list."
            )
    return classes, [found.get(name, []) for name in classes]


def _is_class_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _listed(root: Path) -> tuple[list[Path], list[int]]:
    source = root / "labels.json"
    listed = read_listing(source)
    if not isinstance(listed, dict) or not listed:
        raise DataError(f"{source} must be an object of file names and class indices, such as {{'a.jpg': 0}}.")
    for file, label in listed.items():
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise DataError(f"{source}: the label of {file!r} is {label!r}; give a whole number, counting from 0.")
        if not (root / file).is_file():
            raise DataError(f"{source} names the file {file!r}, which is not in {root}; add it or remove the entry.")
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
