"""Picture files named one by one, for a demonstration or a single attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from advkit.catalog import DATASETS
from advkit.data._files import PictureFiles
from advkit.data.base import numbered
from advkit.errors import DataError
from advkit.paths import expanded, file_problem, shown

__all__ = ["Picture"]


@DATASETS.register("picture")
class Picture(PictureFiles):
    """One picture file, or several of one class; without ``label`` the label is -1, which means unknown.

    The caller puts the model's own prediction in the place of -1 before anything is judged.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        size: int | None = None,
        label: int | None = None,
        crop: float | None = None,
    ) -> None:
        given = [path] if isinstance(path, (str, Path)) else list(path)
        files = [expanded(file) for file in given]
        if not files:
            raise DataError("picture: no file was given; give the path of at least one.")
        for file in files:
            if problem := file_problem(file):
                told = {"it is a folder": "is a folder", "there is no such file": "does not exist"}
                what = told.get(problem, f"cannot be read ({problem})")
                raise DataError(f"the picture {shown(file)} {what}; give the path of a jpg, png, webp or bmp file.")
        if label is not None and label < 0:
            raise DataError(f"picture: label is {label}; give a class index, counting from 0, or none.")
        known = -1 if label is None else label
        classes = numbered("picture", known, 1)
        super().__init__(files[0].stem, files, [known] * len(files), classes, size=size, crop=crop)
