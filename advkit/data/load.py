"""From what the caller writes, a name, a path, tensors, to a data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advkit.catalog import DATASETS
from advkit.core.goal import labels_of
from advkit.data.base import Data, TensorData
from advkit.errors import DataError, nearest
from advkit.paths import check_path, expanded, file_problem, is_folder, shown

__all__ = ["load_data"]


def load_data(
    spec: str | Path | Data | tuple[Tensor, Tensor], *, samples: int | None = None, **settings: object
) -> Data:
    """The data set that ``spec`` means: a registered name, a path, a pair (x, y) of tensors or arrays, or a data set as it is.

    A path is an ``.npz`` file, a folder of pictures or one picture; a text is first looked up as a name (write
    ``./signs`` for a folder of that name). ``settings`` go to what makes the data set; ``samples`` keeps the first few.
    """
    return _made(spec, settings).head(samples)


def _made(spec: str | Path | Data | tuple[Tensor, Tensor], settings: dict[str, object]) -> Data:
    if isinstance(spec, str) and spec in DATASETS:
        return DATASETS.create(spec, **settings)
    if isinstance(spec, (str, Path)):
        source = _source(spec)
        if "path" in settings:
            raise DataError(f"path is no setting of the data {shown(spec)}, which is a path; leave it out.")
        return DATASETS.create(source, path=str(spec), **settings)
    if settings:
        raise DataError(
            f"the settings {', '.join(map(repr, settings))} were given with data that is already made; leave them out."
        )
    if isinstance(spec, Data):
        return spec
    pair: object = spec
    if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], Tensor | np.ndarray):
        x, y = pair
        return TensorData(torch.as_tensor(x), labels_of(y))
    raise DataError(
        f"data was given as {type(spec).__name__}; give the name of a data set, a path, "
        "a pair (pictures, labels) of tensors or arrays, or a Data object."
    )


def _source(spec: str | Path) -> str:
    """Which data set reads the path."""
    check_path("the data", str(spec))
    path = expanded(spec)
    if is_folder(path):
        return "folder"
    if path.suffix.lower() == ".npz":
        return "npz"
    problem = file_problem(path)
    if problem is None:
        return "picture"
    names = DATASETS.names()
    given = shown(spec)
    hint = nearest(given, names) if isinstance(spec, str) else ""
    why = f" ({problem})" if os.path.lexists(path) else ""
    raise DataError(
        f"{given!r} is neither the name of a data set nor an existing file or folder{why}.{hint} "
        f"Known names: {', '.join(names)}. Or give the path of an .npz file, a folder of pictures or one picture."
    )
