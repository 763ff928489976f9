"""Networks from ONNX files: rebuilt from torch layers so that gradients exist, with tensors that lie beside the file."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from advkit.backbones.sources import Loaded
from advkit.errors import MissingExtra, ModelError, first_line
from advkit.hashes import sha256, sha256_of_file

__all__ = ["from_onnx"]

_OTHER_WAYS = "or give the network as FILE.py:NAME or TorchScript"


def from_onnx(path: Path) -> Loaded:
    """The graph of a file. Nothing is read outside the file's own folder, whatever it says of where its tensors are."""
    try:
        import onnx
        import onnx2torch
    except ImportError as error:
        missing = "onnx2torch" if error.name != "onnx" else "onnx"
        raise MissingExtra(missing, "onnx", f"The ONNX model {path.name}") from None
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors have no common class
        raise ModelError(
            f"{path.name} is no readable ONNX file ({first_line(error, typed=True)}); export it again."
        ) from error
    if not model.opset_import:
        raise ModelError(f"{path.name} is no ONNX file: it names no set of operators; export it again.")
    contents = [sha256(content), *map(sha256_of_file, _beside(model, path))]
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # its own checks: ValidationError, ValueError
        raise ModelError(
            f"{path.name} and the files beside it that hold its tensors do not fit ({first_line(error, typed=True)}); export "
            "the network again, with external_data=False for one file."
        ) from error
    try:
        net = onnx2torch.convert(model)
    except Exception as error:  # from KeyError to NotImplementedError for an operator
        opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)
        raise ModelError(
            f"{path.name}, of opset {opset}, cannot be turned into torch layers ({first_line(error, typed=True)}). Where its "
            "operators are newer than onnx2torch knows, export it again with torch.onnx.export(..., opset_version=13, "
            f"dynamo=False, input_names=['x'], dynamic_axes={{'x': {{0: 'n'}}}}), {_OTHER_WAYS}."
        ) from error
    return Loaded(net, f"file {path.name}", sha256=contents[0] if len(contents) == 1 else sha256(" ".join(contents)))


def _beside(model: Any, path: Path) -> list[Path]:
    """The files that hold tensors of a graph, each once. Raises ModelError for one that is not a file of its own folder."""
    found: dict[str, Path] = {}
    folder = path.parent.resolve()
    for tensor in _tensors(model):
        for entry in tensor.external_data:
            if entry.key != "location" or entry.value in found:
                continue
            file = folder / entry.value if "\0" not in entry.value else folder
            try:
                regular = stat.S_ISREG(file.lstat().st_mode)
            except OSError:  # there is none, or its name is too long
                regular = False
            if not regular or not file.resolve().is_relative_to(folder):
                raise ModelError(
                    f"{path.name} keeps the tensor {tensor.name!r} in {entry.value!r}, which is no file in its own folder, so "
                    "nothing was read. Put the file that was exported with it beside it, or export the network again, with "
                    "external_data=False for one file."
                )
            found[entry.value] = file
    return list(found.values())


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of a message that lies in files of its own: of graphs, of attributes, of functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        if message.external_data:
            yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if hasattr(value, "__len__") else (value,):
                yield from _tensors(each)
