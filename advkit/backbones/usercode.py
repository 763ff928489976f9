"""Networks from the user: Python code, TorchScript."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import torch
from torch import nn

from advkit.backbones.sources import Loaded
from advkit.backbones.torchscript import checked_archive
from advkit.errors import ModelError, first_line, nearest
from advkit.hashes import sha256, sha256_of_file
from advkit.paths import expanded
from advkit.trust import Trust, split_code

__all__ = ["from_code", "from_torchscript", "made_by_code"]


def from_code(spec: str, settings: Mapping[str, object], trust: Trust) -> Loaded:
    """What ``file.py:factory[:ARG...]`` or ``package.module:factory[:ARG...]`` returns for the given texts."""
    made = made_by_code(spec, settings, trust)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{spec} returned a {type(made).__name__}; it must return a torch.nn.Module.")
    return Loaded(made)


def made_by_code(spec: str, settings: Mapping[str, object], trust: Trust) -> object:
    """The same, whatever it is. Raises Untrusted, and imports nothing, where the caller did not write the text himself."""
    trust.check(spec)
    place, name, arguments = _parts(spec)
    folder = place.parent if isinstance(place, Path) else Path.cwd()
    with _importable(Path(os.path.realpath(folder))):
        module = _module_of_file(place) if isinstance(place, Path) else _module_of_name(place, spec)
        if not hasattr(module, name):
            raise ModelError(
                f"{place} defines no {name!r};{nearest(name, vars(module))} "
                "name a function there that returns a torch.nn.Module."
            )
        made = getattr(module, name)
        if callable(made) and not isinstance(made, nn.Module):
            made = made(*arguments, **settings)
    return made


def from_torchscript(path: Path, trust: Trust) -> Loaded:
    """A TorchScript archive, looked through before it is loaded unless the caller wrote that its code is to be trusted."""
    archive = str(path) if trust.blindly(path) else checked_archive(path)
    with warnings.catch_warnings():
        # torch calls the format outdated with every load; the user who has such a file cannot change that here
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            net: nn.Module = torch.jit.load(archive, map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{path.name} is not a readable TorchScript file ({first_line(error)}).") from error
    return Loaded(net, f"file {path.name}", sha256=sha256_of_file(path))


def _parts(spec: str) -> tuple[Path | str, str, list[str]]:
    place, is_file, rest = split_code(spec)
    if not rest or not rest[0]:
        raise ModelError(f"{spec} names no function; write {place}:factory.")
    return (expanded(place) if is_file else place), rest[0], rest[1:]


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModelError(f"there is no file {path}; write path/to/file.py:factory.")
    # a name of its own for each place, so that two files called model.py do not meet
    name = f"advkit_user_{path.stem}_{sha256(str(os.path.realpath(path)))[:8]}"
    described = importlib.util.spec_from_file_location(name, path, loader=_Source(name, str(path)))
    if described is None or described.loader is None:
        raise ModelError(f"{path} cannot be imported; write path/to/file.py:factory.")
    module = importlib.util.module_from_spec(described)
    sys.modules[name] = module
    try:
        described.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Source(SourceFileLoader):
    """Runs the file itself, whose SHA-256 is told: a compiled one that lies beside it could say something else."""

    def get_code(self, fullname: str) -> CodeType:
        """Compiled now."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _module_of_name(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ModelError(
                f"there is no module {name!r} (from {spec!r}); write package.module:factory or path/to/file.py:factory."
            ) from None
        raise


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
