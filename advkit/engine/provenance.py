"""What a number depends on besides its inputs: code, versions, hardware."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import nn

from advkit.errors import InputError
from advkit.private import host

__all__ = ["check_code", "circumstances", "code_version", "own_source", "parts_of", "worked_here"]

_DECIDE = (
    "advkit.core",
    "advkit.attacks",
    "advkit.scene",
    "advkit.defenses",
    "advkit.engine.carry",
    "advkit.engine.certify",
    "advkit.engine.controls",
    "advkit.engine.defend",
    "advkit.engine.evaluate",
    "advkit.engine.examples",
    "advkit.engine.external",
    "advkit.engine.fitting",
    "advkit.engine.ladder",
    "advkit.engine.lanes",
    "advkit.engine.own",
    "advkit.engine.passes",
    "advkit.engine.precision",
    "advkit.engine.rivals",
    "advkit.engine.run",
    "advkit.engine.search",
    "advkit.engine.span",
    "advkit.engine.targets",
    "advkit.engine.transfer",
)
"""The modules and packages that decide what an attack finds."""


_OTHERS = ("advkit", "torch", "builtins")
"""Packages whose classes are told apart by their version, and not by their files; but for advkit's own networks."""

_LIBRARIES = (
    "torchvision", "timm", "numpy", "scipy", "pillow", "safetensors", "onnx2torch", "cmaes", "foolbox", "torchattacks",
    "adversarial-robustness-toolbox",
)  # fmt: skip


def code_version(others: Iterable[type] = ()) -> str:
    """A hash of the code that decides the numbers, comments and docstrings apart, and of what defines ``others``."""
    digest = hashlib.sha256(_own_code()[1].encode())
    files = {file for file in map(_file_of, others) if file is not None}
    for meaning in sorted(_meaning(Path(file).read_bytes()) for file in files):  # wherever they are installed
        digest.update(meaning.encode())
    return digest.hexdigest()[:12]


def parts_of(model: nn.Module) -> set[type]:
    """The classes that a model is made of."""
    return {type(part) for part in model.modules()}


def own_source() -> str:
    """What tells whether another process runs the same code of advkit."""
    return " ".join(_own_code())


def check_code(source: str) -> None:
    """Raise InputError where this process runs other code than that of ``source``, of ``own_source`` elsewhere."""
    here = _files_of_own()
    if source.split()[0] != here and source.split()[1] != _own_code()[1]:  # the former is there at once
        raise InputError(
            f"the worker on {platform.node()} runs another advkit than the sweep ({_git(Path(__file__).parent) or 'no git'}); "
            "install the same everywhere, do not change it during a sweep, and run the sweep again."
        )


def _file_of(other: type) -> str | None:
    """The file that defines a class, where there is one."""
    package = other.__module__.partition(".")[0]
    if package in _OTHERS and not other.__module__.startswith("advkit.backbones."):
        return None
    try:
        file = inspect.getsourcefile(other)
    except TypeError:  # made at a prompt
        return None
    return file if file is not None and os.path.isfile(file) else None


@cache
def _own_code() -> tuple[str, str]:
    """Hashes of the files that decide the numbers: of their bytes, and of what the interpreter makes of them."""
    digest = hashlib.sha256()
    for name, path in _own_files():
        digest.update(f"{name} {path.name} {_meaning(path.read_bytes())}".encode())
    return _files_of_own(), digest.hexdigest()


@cache
def _files_of_own() -> str:
    digest = hashlib.sha256()
    for name, path in _own_files():
        digest.update(f"{name} {path.name} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _own_files() -> Iterator[tuple[str, Path]]:
    for name in _DECIDE:
        place = Path(inspect.getsourcefile(importlib.import_module(name)) or "")
        for path in sorted(place.parent.glob("*.py")) if place.name == "__init__.py" else [place]:
            yield name, path


def _meaning(content: bytes) -> str:
    """A file's syntax tree without docstrings: what the interpreter makes of it."""
    tree = ast.parse(content)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:]
    return ast.dump(tree)


@cache
def circumstances() -> dict[str, str]:
    """Versions, hardware and the state of git, for the record; none of them is part of a cell's name."""
    found = {
        "advkit": version("advkit"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "git": _git(Path(__file__).parent),
    }
    found["vector units"] = torch.backends.cpu.get_cpu_capability()
    for package in _LIBRARIES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found["gpu"] = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        found["cuda"] = str(torch.version.cuda)
    return found


def worked_here(device: str) -> dict[str, str]:
    """Where and by what a shard was made: what of the circumstances may differ between the workers of a sweep."""
    known = circumstances()
    told = {name: known[name] for name in ("advkit", "torch", "python", "machine", "processor", "vector units", "git")}
    told |= {**host(platform.node()), "device": device, "threads": str(torch.get_num_threads())}
    if device.startswith("cuda"):
        told |= {"gpu": torch.cuda.get_device_name(torch.device(device)), "cuda": known.get("cuda", "")}
    return told


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _git(folder: Path) -> str:
    """The commit of the checkout that advkit runs from, marked where files differ from it; else nothing."""

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        commit = ask("rev-parse", "--short=12", "HEAD")
        return f"{commit}, changed" if ask("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return ""
