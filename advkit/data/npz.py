"""Arrays in one ``.npz`` file: pictures ``x``, labels ``y`` and, there or in a file beside it, the names of the classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from advkit.arrays import read_arrays
from advkit.catalog import DATASETS
from advkit.data._names import read_names
from advkit.data.base import TensorData
from advkit.errors import DataError
from advkit.paths import expanded, shown

__all__ = ["npz"]

_Array = NDArray[Any]


@DATASETS.register("npz")
def npz(path: str | Path) -> TensorData:
    """Pictures x (N, H, W, 3), (N, 3, H, W) or (N, H, W), uint8 or float in [0, 1], and labels y (N,), of one file.

    The classes are named by an array ``classes`` or, for ``signs_test.npz``, by ``signs_test_classes.json`` or
    ``signs_classes.json`` beside it: a list, or index to name.
    """
    file = expanded(path)
    if not os.path.lexists(file):
        raise DataError(
            f"the file {shown(file)} does not exist; give the path of an .npz file with the arrays x and y."
        )
    arrays = _arrays(file)
    x, y = _pictures(file, arrays["x"]), _labels(file, arrays["y"], len(arrays["x"]))
    names = _classes(file, arrays.get("classes")) or _names_beside(file)
    return TensorData(torch.from_numpy(x), torch.from_numpy(y), name=file.stem, classes=names)


def _arrays(file: Path) -> dict[str, _Array]:
    """Read what is needed."""
    arrays, held = read_arrays(file, ("x", "y", "classes"))
    missing = [key for key in ("x", "y") if key not in arrays]
    if missing:
        raise DataError(
            f"{file} has no array {' and no array '.join(missing)}; it holds {', '.join(held) or 'none'}. "
            "Save pictures as x and labels as y."
        )
    return arrays


def _pictures(file: Path, x: _Array) -> _Array:
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise DataError(f"{file}: x is {x.dtype}; give uint8 (0 to 255) or floating-point numbers in [0, 1].")
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and (x.shape[3] in (1, 3)) != (x.shape[1] in (1, 3)):
        x = x.transpose(0, 3, 1, 2) if x.shape[3] in (1, 3) else x
    else:
        raise DataError(
            f"{file}: x has shape {x.shape}, in which the channels cannot be told; "
            "give (N, H, W, 3), (N, 3, H, W), the same with 1 channel, or (N, H, W)."
        )
    if 0 in x.shape:
        raise DataError(f"{file}: x has shape {x.shape}: it holds no pixel; give at least one picture.")
    return x if x.dtype in (np.uint8, np.float32) else x.astype(np.float32)


def _labels(file: Path, y: _Array, count: int) -> _Array:
    if y.dtype.kind not in "iu":
        raise DataError(f"{file}: y is {y.dtype}; give class indices as whole numbers: y.astype(numpy.int64).")
    if y.shape != (count,):
        raise DataError(f"{file}: y has shape {y.shape} but x holds {count} pictures; give y as ({count},).")
    if y.dtype.itemsize == 8 and y.dtype.kind == "u" and count and int(y.max()) >= 2**63:
        raise DataError(f"{file}: y holds {int(y.max())}; labels are class indices, counted from 0.")
    return y.astype(np.int64)


def _classes(file: Path, classes: _Array | None) -> list[str] | None:
    if classes is None:
        return None
    if classes.ndim != 1 or classes.dtype.kind not in "US":
        raise DataError(f"{file}: classes is {classes.dtype} of shape {classes.shape}; give a list of names.")
    try:
        return [name.decode() if isinstance(name, bytes) else str(name) for name in classes.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: classes holds the bytes {error.object!r}, which are no UTF-8; save the names as text: "
            "numpy.array(names)."
        ) from None


def _names_beside(file: Path) -> list[str] | None:
    """The names in the file that is called most like this one: parts of a data set have their names in common."""
    words = file.stem.split("_")
    for count in range(len(words), 0, -1):
        source = file.with_name("_".join([*words[:count], "classes.json"]))
        if source.is_file():
            return read_names(source)
    return None
